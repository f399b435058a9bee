"""Reads the templates that [notices] names."""

from masqmail.mail.template import Template, parse_template
from masqmail.settings import TemplateSource

MAX_TEMPLATE_BYTES = 64 * 1024


def read_template(source: TemplateSource) -> Template:
    """The template of a setting.

    Raises `TemplateError` for a variable there is not, `OSError` for a file that cannot be read, and `ValueError` for
    one that is no text or too big.
    """
    if source.path is None:
        return parse_template(source.text)
    with source.path.open("rb") as file:
        data = file.read(MAX_TEMPLATE_BYTES + 1)
    if len(data) > MAX_TEMPLATE_BYTES:
        raise ValueError(f"it is bigger than {MAX_TEMPLATE_BYTES // 1024} KB")
    try:
        return parse_template(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8 text") from None
