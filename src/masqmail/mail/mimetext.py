"""Text of any language as mail carries it: in UTF-8, but with nothing beyond ASCII on its way."""

import binascii

MAX_LINE_BYTES = 998  # RFC 5322 §2.1.1


def text_part(text: str, language: str) -> bytes:
    """A text/plain part: its header, a blank line and the text. `text` has LF line ends."""
    raw = text.encode(errors="replace")
    lines = raw.split(b"\n")
    charset, encoding = "us-ascii" if raw.isascii() else "utf-8", "7bit"
    if not raw.isascii() or max(map(len, lines)) > MAX_LINE_BYTES:
        encoding = "quoted-printable"  # RFC 2045 §6.7: every server can pass it on
        lines = [binascii.b2a_qp(line).replace(b"\n", b"\r\n") for line in lines]
    head = (
        f"Content-Type: text/plain; charset={charset}\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n"
        f"Content-Language: {language}\r\n\r\n"  # RFC 3282
    )
    return head.encode() + b"\r\n".join(lines)


def subject_field(subject: str) -> str:
    """A Subject field without its line end, folded and encoded where that is needed (RFC 2047). One line goes in."""
    if subject.isascii():
        return f"Subject: {subject}"
    from email.header import Header  # half of the mail package, for the few reports there are

    readable = subject.encode(errors="replace").decode()
    return f"Subject: {Header(readable, 'utf-8', header_name='Subject').encode(linesep=chr(13) + chr(10))}"
