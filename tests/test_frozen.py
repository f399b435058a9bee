"""`@frozen`: like a frozen dataclass with slots, for less memory."""

import copy
import gc
import pickle
import weakref
from dataclasses import FrozenInstanceError, field, replace

import pytest

from masqmail.frozen import frozen


@frozen
class Point:
    """Where something is."""

    x: int
    y: int = 0
    secret: str = field(default="", repr=False)


@frozen
class Named(Point):
    name: str = ""


@frozen(kw_only=True, order=True)
class Size:
    bytes: int


@frozen(eq=False)
class Session:
    peer: str


@frozen
class Shown:
    text: str

    def __repr__(self) -> str:
        return f"<{self.text}>"


@pytest.mark.parametrize("value", [Point(1), Named(1, name="home")])
def test_nothing_of_a_value_can_be_changed(value: Point) -> None:
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'x'"):
        value.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'x'"):
        del value.x
    with pytest.raises(FrozenInstanceError):
        value.other = 2  # type: ignore[attr-defined]
    assert value.x == 1
    assert not hasattr(value, "__dict__")


def test_values_are_equal_when_all_their_fields_are() -> None:
    assert Point(1, 2) == Point(1, 2) != Point(1, 3)
    assert {Point(1, 2), Point(1, 2)} == {Point(1, 2)}
    assert Named(1, name="a") != Named(1, name="b")
    assert Session("a") != Session("a")
    assert Size(bytes=1) < Size(bytes=2)


def test_a_value_shows_its_fields_and_no_secrets() -> None:
    assert repr(Point(1, secret="sesame")) == "Point(x=1, y=0)"
    assert repr(Named(1, name="home")) == "Named(x=1, y=0, name='home')"
    assert repr(Shown("as it likes")) == "<as it likes>"


def test_values_are_copied_and_changed_copies_made() -> None:
    point = Point(1, 2, "sesame")
    assert copy.deepcopy(point) == point == pickle.loads(pickle.dumps(point))
    assert replace(point, y=3) == Point(1, 3, "sesame")


def test_the_class_without_slots_is_given_back() -> None:
    class Plain:
        x: int

    plain = weakref.ref(Plain)
    made = frozen(Plain)
    del Plain
    gc.collect()
    assert plain() is None
    assert made(1).x == 1  # type: ignore[call-arg]
