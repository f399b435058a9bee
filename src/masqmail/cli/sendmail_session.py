"""The conversation of `sendmail` with the daemon: pipelined SMTP over submit.sock, RFC 5321, 2920 and 3030.

Like `cli.sendmail` this imports nothing that costs time to load. Beside the public extensions it uses our own,
XSUBMIT, which only submit.sock offers. Its parameters of MAIL:

    XSELF                  the reverse-path (which must be <>) is the submitter's own address
    XHEADERRCPTS[=NOTIFY]  the recipients in To, Cc and Bcc are added to those of RCPT; there may be none of those
    XFULLNAME=xtext        the name for a From field that is missing; UTF-8 under the xtext
    XQUEUEONLY             keep the message until somebody flushes the queue
"""

import _socket
import posix

from masqmail.cli.sendmail_message import Message, write_all
from masqmail.cli.sendmail_options import Failure, Options
from masqmail.cli.sendmail_places import Silent, Unavailable

MAX_REPLY_BYTES = 65536
_RCPT_GROUP = 100  # so many recipients at a time, lest both sides wait for the other to read


class Rejected(Failure):
    """The message was not accepted."""


class Conversation:
    """One connection to submit.sock."""

    def __init__(self, connection: _socket.socket, *, verbose: bool) -> None:
        self._verbose = verbose
        self._inbox = b""
        self._socket = connection

    def submit(self, options: Options, message: Message) -> None:
        """Hands the message in; returns when the daemon has it on stable storage.

        Raises `Unavailable` while it cannot have been accepted, with the message as it was before; else `Rejected`.
        """
        self._offer(options, message)
        try:
            while True:
                self._expect(b"250")
                if message.is_ended:
                    return
                self._send_block(message.read(), message)
        except Unavailable as error:
            raise Rejected(
                f"the mail server went away, the message may not be sent: {error}", posix.EX_TEMPFAIL
            ) from None

    def _offer(self, options: Options, message: Message) -> None:
        """Everything up to the first block of the message, which is sent, but for its verdict.

        It waits for each verdict on a recipient: when one of them is refused, nobody gets the message. Nothing else
        is waited for: what there is to send is sent before the greeting is read, as XSUBMIT allows.
        """
        notify = f" NOTIFY={options.notify}".encode() if options.notify else b""
        commands = [mail_command(options)]
        commands += [b"RCPT TO:<%s>%s" % (recipient, notify) for recipient in options.recipients]
        first = (b"EHLO localhost", *commands[:_RCPT_GROUP])
        block = b"" if options.recipients else message.read()
        try:
            if options.recipients:
                self._send(first)
            else:
                self._send_block(block, message, first)
            self._expect(b"220")
            if b"XSUBMIT" not in self._expect(b"250").upper():
                raise Rejected("the mail server does not know XSUBMIT; is it another version?", posix.EX_TEMPFAIL)
            for start in range(0, len(commands), _RCPT_GROUP):
                group = commands[start : start + _RCPT_GROUP]
                if start:
                    self._send(tuple(group))
                for command in group:
                    self._expect(b"25", command)
            if options.recipients:
                block = message.read()
                self._send_block(block, message)
        except Silent as error:
            if not options.recipients and message.is_ended:  # it may still read and take what was sent to it
                raise Rejected(f"the message may be sent or not: {error}", posix.EX_TEMPFAIL) from None
            message.put_back(block)
            raise
        except Unavailable:
            message.put_back(block)
            raise

    def _send_block(self, block: bytes, message: Message, commands: tuple[bytes, ...] = ()) -> None:
        """Sends commands and a block that was read from the message, and QUIT behind the last."""
        last = b" LAST" if message.is_ended else b""
        self._send((*commands, b"BDAT %d%s" % (len(block), last)), block, (b"QUIT",) if last else ())

    def close(self) -> None:
        """Shows the answer to QUIT where it is wanted; nothing depends on it any more."""
        if self._verbose:
            try:
                self._reply()
            except Unavailable:
                pass
        self._socket.close()

    def copy(self) -> None:
        """Joins standard input and output with the connection, for `-bs`, until one side closes it."""
        child = posix.fork()
        if not child:
            try:
                while block := posix.read(0, 65536):
                    self._socket.sendall(block)
                self._socket.shutdown(_socket.SHUT_WR)
            finally:  # this process ends here, whatever broke
                posix._exit(0)
        try:
            while block := self._socket.recv(65536):
                write_all(1, block)
        except OSError:  # the client hung up, or nobody said anything for very long
            pass
        posix.kill(child, 15)
        posix.waitpid(child, 0)

    def _send(self, commands: tuple[bytes, ...], data: bytes = b"", closing: tuple[bytes, ...] = ()) -> None:
        """Sends commands, what belongs to the last of them, and commands behind that, in one piece."""
        if self._verbose:
            self._show(b"".join(b">>> %s\n" % command for command in (*commands, *closing)))
        lines = [command + b"\r\n" for command in commands]
        try:
            self._socket.sendall(b"".join([*lines, data, *(command + b"\r\n" for command in closing)]))
        except OSError as error:
            raise Unavailable(error.strerror) from None

    def _show(self, text: bytes) -> None:
        """Shows a part of the conversation. That nobody looks on is no reason to lose the message, or its verdict."""
        try:
            write_all(1, text)
        except OSError:
            self._verbose = False

    def _expect(self, start: bytes, command: bytes = b"") -> bytes:
        """The next reply, which must begin so. Raises `Rejected` or `Unavailable`."""
        reply = self._reply()
        if reply.startswith(b"421"):  # RFC 5321 §3.8: it will close whatever we say
            raise Unavailable(_text(reply))
        if not reply.startswith(start):
            what = f"{_text(command)}: " if command else ""
            raise Rejected(what + _text(reply), exit_code(reply))
        return reply

    def _reply(self) -> bytes:
        """One reply with all its lines, RFC 5321 §4.2.1."""
        reply = b""
        while True:
            line, newline, rest = self._inbox.partition(b"\n")
            if newline:
                self._inbox = rest
                if self._verbose:
                    self._show(b"<<< " + line.rstrip() + b"\n")
                reply += line.rstrip() + b"\n"
                if line[3:4] != b"-":
                    return reply
                continue
            try:
                part = self._socket.recv(65536)
            except TimeoutError:
                raise Silent("it does not answer") from None
            except OSError as error:
                raise Unavailable(error.strerror or "it does not answer") from None
            self._inbox += part
            if not part or len(self._inbox) + len(reply) > MAX_REPLY_BYTES:
                raise Unavailable("the connection was closed" if not part else "its reply has no end")


def mail_command(options: Options) -> bytes:
    """The MAIL command with what the options ask for."""
    words = [b"MAIL FROM:<%s>" % (options.sender or b""), b"BODY=" + options.body.encode()]
    if options.sender is None:
        words.append(b"XSELF")
    if options.header_recipients:
        words.append(b"XHEADERRCPTS=" + options.notify.encode() if options.notify else b"XHEADERRCPTS")
    if options.full_name:
        words.append(b"XFULLNAME=" + xtext(options.full_name))
    if options.queue_only:
        words.append(b"XQUEUEONLY")
    if options.ret:
        words.append(b"RET=" + options.ret.encode())
    if options.envelope_id:
        words.append(b"ENVID=" + xtext(options.envelope_id))
    return b" ".join(words)


def xtext(text: str) -> bytes:
    """RFC 3461 §4: printable ASCII but `+` and `=` stands for itself, the rest of the UTF-8 in hex."""
    return b"".join(
        b"%c" % octet if 0x21 <= octet <= 0x7E and octet not in b"+=" else b"+%02X" % octet
        for octet in text.encode(errors="replace")
    )


def exit_code(reply: bytes) -> int:
    """What a refusal means for who called us: by its enhanced status code (RFC 3463), else by its class."""
    if not reply.startswith(b"5"):
        return posix.EX_TEMPFAIL
    enhanced = reply[4:].split(b" ", 1)[0]
    for start, code in _EXIT_CODES:
        if enhanced.startswith(start):
            return code
    return posix.EX_UNAVAILABLE


_EXIT_CODES = (
    (b"5.1.0", posix.EX_DATAERR),  # no recipients at all
    (b"5.1.3", posix.EX_DATAERR),
    (b"5.1.7", posix.EX_DATAERR),
    (b"5.1.", posix.EX_NOUSER),
    (b"5.2.", posix.EX_NOUSER),
    (b"5.3.4", posix.EX_DATAERR),
    (b"5.4.6", posix.EX_DATAERR),
    (b"5.5.", posix.EX_DATAERR),
    (b"5.6.", posix.EX_DATAERR),
    (b"5.7.", posix.EX_NOPERM),
)


def _text(reply: bytes) -> str:
    return " ".join(reply.decode(errors="replace").split())
