import pytest

from masqmail.mail.shown import author_of, subject_of


@pytest.mark.parametrize(
    ("header", "author", "subject"),
    [
        (b"", "", ""),
        (b"From: Ann <ann@example.org>\r\nSubject: Hello\r\n", "Ann <ann@example.org>", "Hello"),
        (
            b"From: =?utf-8?q?J=C3=B6rg?= <j@example.org>\r\nSubject: =?utf-8?b?Z3LDvMOfZQ==?=\r\n",
            "Jörg <j@example.org>",
            "grüße",
        ),
        (b"From: a@x\r\nFrom: b@x\r\nSubject:\r\n one\r\n\ttwo\x1b[2J\r\n", "a@x", "one two [2J"),
        (b"From: =?bogus?q?x?=\r\nSubject: =?utf-8?b?a?=\r\n", "=?bogus?q?x?=", "=?utf-8?b?a?="),
        (b"From: \xff\xfe\r\nSubject: gr\xc3\xbc\xc3\x9fe\r\n", "\ufffd\ufffd", "grüße"),
    ],
)
def test_a_person_sees_who_wrote_and_about_what(header: bytes, author: str, subject: str) -> None:
    assert (author_of(header), subject_of(header)) == (author, subject)


def test_what_is_shown_has_bounds() -> None:
    header = b"From: " + b"a" * 100_000 + b"\r\nSubject: " + b"b" * 100_000 + b"\r\n"
    assert len(author_of(header)) == 201
    assert len(subject_of(header)) == 121
