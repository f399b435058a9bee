"""What `sendmail` does without a daemon: it leaves the message in the pickup folder, on stable storage.

Like `cli.sendmail` this imports nothing that costs time to load. `masqmail.reception.pickup` reads these files
and describes their format.
"""

import os

from masqmail.cli.sendmail_message import Message, write_all
from masqmail.cli.sendmail_options import Options

TRAILER = b"MasqMail-End: %018d\n"


def leave(folder: str, options: Options, message: Message) -> None:
    """Writes one file and returns when it survives a crash. Raises `OSError`; then nothing is left behind.

    The folder can be written but not listed (mode 1733), so the unguessable name keeps the file, which the
    daemon must be able to read, from everybody else.
    """
    name = os.path.join(folder, os.urandom(16).hex())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o644)
    try:
        os.fchmod(descriptor, 0o644)  # whatever the umask says
        block = envelope(options)
        size = 0
        while block:
            write_all(descriptor, block)
            size += len(block)
            block = message.read()
        write_all(descriptor, TRAILER % size)
        os.fsync(descriptor)
    except BaseException:
        os.unlink(name)
        raise
    finally:
        os.close(descriptor)
    os.sync()  # the entry in the folder, which we may not open to sync it alone


def envelope(options: Options) -> bytes:
    """The lines before the message."""
    lines = ["MasqMail-Pickup: 1", f"Body: {options.body}"]
    if options.sender is not None:
        lines.append(f"Sender: <{options.sender.decode()}>")
    lines += [f"Recipient: <{recipient.decode()}>" for recipient in options.recipients]
    if options.header_recipients:
        lines.append("Header-Recipients: yes")
    if options.queue_only:
        lines.append("Queue-Only: yes")
    lines += [
        f"{name}: {' '.join(value.split())}"
        for name, value in (
            ("Full-Name", options.full_name),
            ("Notify", options.notify),
            ("Ret", options.ret),
            ("Envelope-ID", options.envelope_id),
        )
        if value
    ]
    return "".join(f"{line}\n" for line in (*lines, "")).encode(errors="replace")
