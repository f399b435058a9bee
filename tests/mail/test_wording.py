"""Every language says the same."""

import string
from dataclasses import fields

import pytest

from masqmail.mail.wording import Action, Advice, Language, Letter, Wording, wording

ENGLISH = wording(Language.ENGLISH)
OTHERS = [language for language in Language if language is not Language.ENGLISH]


def names_in(text: str) -> set[str]:
    """The names that are to be filled in."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def texts(words: Wording) -> dict[str, str]:
    """Every text by where it stands."""
    found: dict[str, str] = {}
    for field in fields(Wording):
        value = getattr(words, field.name)
        if isinstance(value, str):
            found[field.name] = value
        elif isinstance(value, Letter):
            found |= {f"{field.name}.subject": value.subject, f"{field.name}.text": value.text}
        elif isinstance(value, Advice):
            found |= {f"{field.name}.meaning": value.meaning, f"{field.name}.advice": value.advice}
        elif field.name == "advice":
            for key, advice in value.items():
                found |= {f"advice.{key}.meaning": advice.meaning, f"advice.{key}.advice": advice.advice}
        elif field.name == "openings":
            found |= {f"openings.{key}.{n}": text for key, pair in value.items() for n, text in enumerate(pair)}
        elif field.name == "subjects":
            found |= {f"subjects.{key}": text for key, text in value.items()}
    return found


@pytest.mark.parametrize("language", Language)
def test_a_language_is_the_one_that_was_asked_for(language: Language) -> None:
    assert wording(language).language is language


@pytest.mark.parametrize("language", OTHERS)
def test_every_text_is_there_with_the_same_names_and_in_other_words(language: Language) -> None:
    own, english = texts(wording(language)), texts(ENGLISH)
    assert own.keys() == english.keys()
    for place, text in own.items():
        assert names_in(text) == names_in(english[place]), place
    assert {place for place, text in own.items() if text == english[place]} == set()


@pytest.mark.parametrize("language", Language)
def test_every_meaning_and_every_advice_is_a_sentence(language: Language) -> None:
    words = wording(language)
    for advice in (*words.advice.values(), words.given_back):
        for text in (advice.meaning, advice.advice):
            assert text[0].isupper() and text.endswith("."), text


@pytest.mark.parametrize("language", Language)
def test_every_action_has_a_subject_and_openings_of_its_own(language: Language) -> None:
    words = wording(language)
    assert words.subjects.keys() == words.openings.keys() == set(Action)
    assert len(set(words.subjects.values())) == len(Action)
    assert len({text for pair in words.openings.values() for text in pair}) == 2 * len(Action)


@pytest.mark.parametrize("language", Language)
def test_letters_keep_to_the_width_of_mail(language: Language) -> None:
    for place, text in texts(wording(language)).items():
        if place.endswith(".text"):
            assert max(map(len, text.split("\n"))) <= 100, place
            assert text.endswith("\n")
            assert not any(line.endswith(" ") for line in text.split("\n"))


def test_every_subject_of_rfc_3463_has_advice() -> None:
    assert set("01234567") == {key for key in ENGLISH.advice if "." not in key}
    assert ENGLISH.advice["0"] == Advice(
        "No exact reason was given.",
        "Read the words above. If they do not help, forward this report to your postmaster.",
    )


def test_a_letter_is_filled_in_once() -> None:
    assert Letter("{a}", "{a} {b}\n").filled(a="{b}", b=2) == Letter("{b}", "{b} 2\n")
