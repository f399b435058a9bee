"""The TOML that is written: whatever the values are, they come back."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from masqmail.importing.document import Document

TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = (
    TEXT
    | st.booleans()
    | st.integers(0, 2**40)
    | st.lists(TEXT, max_size=4)
    | st.dictionaries(TEXT, TEXT, max_size=3)
)


@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=4), TEXT, TEXT)
def test_values_and_names_come_back_as_they_were(
    values: dict[str, str | bool | int | list[str]], name: str, word: str
) -> None:
    document = Document()
    section = document.section("routes", name)
    for key, value in values.items():
        section[key] = value
    section.comment(word)
    document.head(word)
    assert tomllib.loads(document.render())["routes"][name] == values


def test_sections_stand_in_the_usual_order_and_settings_too() -> None:
    document = Document()
    for name in ("local", "routes", "host"):
        document.section(name)["x"] = True
    section = document.section("routes")
    section["tls"] = "none"
    section["links"] = ["a"]
    assert document.render() == (
        '[host]\nx = true\n\n[routes]\nlinks = ["a"]\ntls = "none"\nx = true\n\n[local]\nx = true\n'
    )


def test_what_is_left_out_is_a_comment_with_everything_below_it() -> None:
    document = Document()
    document.section("routes", "a").disabled = "it cannot be used"
    document.section("routes", "a", "rewrite")["all"] = {"*": "*@b.example"}
    document.section("routes", "b")["tls"] = "none"
    text = document.render()
    assert tomllib.loads(text) == {"routes": {"b": {"tls": "none"}}}
    assert "# Left out: it cannot be used" in text
    assert '# all = { "*" = "*@b.example" }' in text
    assert document.names("routes") == ("b",)


def test_sections_that_say_nothing_are_not_there() -> None:
    document = Document()
    document.section("host")
    assert document.render().strip() == ""
