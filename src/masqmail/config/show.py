"""The effective configuration for `masqmail check --show`: as TOML it loads again to the same values."""

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
    for path, head, section in _sections(configuration):
        lines += ["", f"[{'.'.join(map(_key, path))}]"]
        lines += [f"{key} = {toml(value)}" for key, value in head.items()]
        lines += setting_lines(section)
    return "\n".join(lines) + "\n"


def document(configuration: Configuration) -> dict[str, Any]:
    """The same for programs: tables of settings. What is not set is None, secrets are left out."""
    whole: dict[str, Any] = {}
    for path, head, section in _sections(configuration):
        table = whole
        for name in path:
            table = table.setdefault(name, {})
        table |= head
        table |= setting_values(section)
    return whole


def _sections(configuration: Configuration) -> Iterator[tuple[tuple[str, ...], dict[str, str], object]]:
    """Every section with its place, and what stands at its head without being a setting of it."""
    for name in ("host", "paths", "submission", "queue", "smtp"):
        yield (name,), {}, getattr(configuration, name)
    for name, link in configuration.links.items():
        yield ("links", name), {"detect": link.detect}, link.options
    for name, route in configuration.routes.items():
        yield ("routes", name), {}, route
        yield ("routes", name, "rewrite"), {}, route.rewrite
    yield ("local",), {}, configuration.local
    for name, user in configuration.local.users.items():
        yield ("local", "users", name), {}, user
    for name, account in configuration.fetch.items():
        yield ("fetch", name), {}, account
    for name in ("notices", "log"):
        yield (name,), {}, getattr(configuration, name)


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


def setting_values(section: object) -> dict[str, object]:
    """What is written of each setting that is no secret, by its key."""
    values = dict[str, object]()
    for key, field in settings_of(type(section)).items():
        value = getattr(section, field.name)
        if not field.metadata["secret"]:
            values[key] = None if value is None else written(field.type, value)
    return values


def _key(name: str) -> str:
    """A name as part of a header."""
    return name if name.isascii() and name.replace("-", "").replace("_", "").isalnum() else toml(name)
