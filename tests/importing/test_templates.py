"""The texts of old reports."""

from hypothesis import given
from hypothesis import strategies as st

from masqmail.importing.templates import convert
from masqmail.mail.template import parse_template

PLAIN = "Dear ${return_path_local},\n$uid failed at ${host_name}: ${err_msg}\n@failed_rcpts\n@msg_headers\n"


def test_variables_and_lines_get_their_new_names() -> None:
    text, lost = convert(PLAIN)
    assert text == (
        "Dear ${sender_local},\n${queue_id} failed at ${host_name}: ${reasons}\n"
        "${failed_recipients}\n${message_header}\n"
    )
    assert lost == ()
    parse_template(text)


def test_of_a_message_in_parts_only_the_text_is_kept() -> None:
    old = (
        'From: x\nContent-Type: multipart/mixed; boundary="b"\n\n--b\n\nIt failed.\n@nonsense\n${odd}\n'
        "--b\nContent-Type: message/rfc822\n\n@msg_headers\n\n@msg_body\n--b--\n"
    )
    text, lost = convert(old)
    assert text == "It failed.\n"
    assert lost == ("the header of the template", "@nonsense", "${odd}")


@given(st.text(alphabet='ab@${}:-\n "', max_size=60))
def test_any_text_can_be_converted(old: str) -> None:
    convert(old)
