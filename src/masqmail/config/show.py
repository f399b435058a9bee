"""The effective configuration as TOML, for `masqmail check --show`: it loads again to the same values."""

from collections.abc import Iterator
from typing import Any

from masqmail.config.model import Configuration
from masqmail.config.reader import settings_of
from masqmail.config.values import item_of, kind_of, without_none

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n"}


def show(configuration: Configuration) -> str:
    """Every section with every setting, also the defaults; what is not set is a comment, secrets are hidden."""
    origin = str(configuration.path or "no file: these are the defaults")
    lines = [f"# {toml(origin)}"]
    for name in ("host", "paths", "submission", "queue", "smtp"):
        lines += ["", f"[{name}]", *setting_lines(getattr(configuration, name))]
    for name, link in configuration.links.items():
        lines += ["", f"[links.{_key(name)}]", f"detect = {toml(link.detect)}", *setting_lines(link.options)]
    for name, route in configuration.routes.items():
        lines += ["", f"[routes.{_key(name)}]", *setting_lines(route)]
        lines += ["", f"[routes.{_key(name)}.rewrite]", *setting_lines(route.rewrite)]
    lines += ["", "[local]", *setting_lines(configuration.local)]
    for name, user in configuration.local.users.items():
        lines += ["", f"[local.users.{_key(name)}]", *setting_lines(user)]
    for name, account in configuration.fetch.items():
        lines += ["", f"[fetch.{_key(name)}]", *setting_lines(account)]
    for name in ("notices", "log"):
        lines += ["", f"[{name}]", *setting_lines(getattr(configuration, name))]
    return "\n".join(lines) + "\n"


def written(hint: object, value: Any) -> object:
    """A value of the model as TOML knows it: text, number, truth, list or table."""
    hint = without_none(hint)
    item = item_of(hint)
    if item is None:
        return kind_of(hint).write(value)
    return [kind_of(item).write(entry) for entry in value]


def toml(value: object) -> str:
    """A value as TOML text on one line."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            pairs = ", ".join(f"{toml(key)} = {toml(entry)}" for key, entry in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"
        case _:
            text = "".join(_ESCAPES.get(c, c if c.isprintable() else f"\\U{ord(c):08x}") for c in str(value))
            return f'"{text}"'


def setting_lines(section: object) -> Iterator[str]:
    for key, field in settings_of(type(section)).items():
        value = getattr(section, field.name)
        if field.metadata["secret"]:
            yield f"# {key} is hidden"
        elif value is None:
            yield f"# {key} is not set" + (f": {field.metadata['otherwise']}" if field.metadata["otherwise"] else "")
        else:
            yield f"{key} = {toml(written(field.type, value))}"


def _key(name: str) -> str:
    """A name as part of a header."""
    return name if name.isascii() and name.replace("-", "").replace("_", "").isalnum() else toml(name)
