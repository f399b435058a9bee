"""`@frozen`: the values of this program, as dataclasses that cannot be changed and cost little memory.

`dataclass(frozen=True, slots=True)` writes its methods anew for each class, and keeps alive the class without slots
that it replaces: with 200 classes more than a megabyte, on boards that have 256. Here what need not differ is
written once.
"""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform, overload

_Class = TypeVar("_Class", bound=type)


@overload
def frozen(made: _Class, /) -> _Class: ...


@overload
def frozen(*, kw_only: bool = False, eq: bool = True, order: bool = False) -> Callable[[_Class], _Class]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(made: Any = None, /, **options: bool) -> Any:
    """Makes a class a frozen dataclass with slots; `options` are those of `dataclass`."""
    if made is None:
        return lambda later: _freeze(later, **options)
    return _freeze(made)


def _freeze(plain: Any, **options: bool) -> Any:
    made: Any = dataclass(frozen=True, slots=True, repr=False, **options)(plain)
    if "__repr__" not in plain.__dict__:
        made.__repr__ = _show
    made.__setattr__, made.__delattr__ = _refuse_assignment, _refuse_deletion
    if "__weakref__" in made.__dict__:  # taken over from the plain class, which it would keep alive
        del made.__weakref__
    return made


def _show(self: Any) -> str:
    shown = (f"{found.name}={getattr(self, found.name)!r}" for found in fields(self) if found.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse_assignment(self: object, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deletion(self: object, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")
