"""Line ends as mail has them: a lone CR or LF becomes CRLF, whatever the slices it comes in."""


class LineEnds:
    """Makes every line end CRLF. Give it the text with `feed`, in any slices, and ask for the rest with `finish`."""

    __slots__ = ("_has_cr",)

    def __init__(self) -> None:
        self._has_cr = False  # the last slice ended with a CR: what is behind it decides

    def feed(self, data: bytes) -> bytes:
        """The next part of the text; the very same object where nothing has to change, as nearly always."""
        if self._has_cr and data:
            self._has_cr = False
            data = b"\r" + data
        if data.endswith(b"\r"):
            self._has_cr = True
            data = data[:-1]
        ends = data.count(b"\r\n")
        if ends == data.count(b"\n") and ends == data.count(b"\r"):
            return data
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")

    def finish(self) -> bytes:
        """What is left at the end of the text."""
        rest, self._has_cr = b"\r\n" * self._has_cr, False
        return rest
