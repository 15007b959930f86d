"""Lists of numbers and names as people type them."""

from __future__ import annotations

import pytest

from threedgp.commands.options import class_list, number_list, truncation_list
from threedgp.runtime.errors import UserError

NAMES = ["dog", "Cat", "7", "cat"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("5", [5]),
        ("0-3", [0, 1, 2, 3]),
        ("3,1-2, 7 - 8", [3, 1, 2, 7, 8]),
        ("1,1,0-2", [1, 0, 2]),
        ("0-999999", list(range(1_000_000))),
    ],
)
def test_numbers(text, numbers):
    assert number_list(text, "--seeds") == numbers


@pytest.mark.parametrize("text", ["", "x", "1,", "0-", "-3", "3-1", "1.5", "0x10", "1-2-3", "²", "9" * 30, "nan"])
def test_what_is_no_list_is_quoted(text):
    with pytest.raises(UserError, match=r"--seeds: '.*' is not a list of numbers; write numbers and ranges") as told:
        number_list(text, "--seeds")
    assert f"'{text}'" in str(told.value)


def test_too_many_numbers_are_refused_before_they_are_made():
    for text in ("0-999999999999999999", "0-600000,700000-1400000"):
        with pytest.raises(UserError, match="more than 1,000,000 numbers"):
            number_list(text, "--seeds")


def test_classes_by_number_and_name():
    assert class_list("1,dog", NAMES) == [1, 0]
    assert class_list("2-3,DOG", NAMES) == [2, 3, 0]
    assert class_list("cat", NAMES) == [1]  # the first of that name
    with pytest.raises(UserError, match=r"there is no class '7'|there is no class 7"):
        class_list("7", NAMES)  # numbers are labels, also where a class has the name of one


def test_names_with_commas():
    """As those of ImageNet on the Hugging Face hub."""
    names = ["tench, Tinca tinca", "maillot", "maillot, tank suit"]
    assert class_list("tench, Tinca tinca", names) == [0]
    assert class_list(",".join(map(str, range(3))), names) == [0, 1, 2]
    assert class_list("maillot,Maillot, tank suit,0", names) == [1, 2, 0]
    with pytest.raises(UserError, match="there is no class 'tench'"):
        class_list("tench", names)


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("4", NAMES, r"there is no class 4; the model has 0 to 3 \(dog, Cat, 7, cat\)"),
        ("horse", NAMES, "there is no class 'horse'; the model has 0 to 3"),
        ("1", [], "this model has no classes; leave the option out"),
        ("0-20", [str(n) for n in range(12)], r"no class 12; the model has 0 to 11 \(0, 1, .*, 9, \.\.\.\)"),
    ],
)
def test_unknown_classes_are_told(text, names, message):
    with pytest.raises(UserError, match=message):
        class_list(text, names)


def test_truncations():
    assert truncation_list("0,0.5,1, 0.5") == [0, 0.5, 1]
    for text in ("", "x", "1.1", "-0.1", "nan", "0.5,"):
        with pytest.raises(UserError, match=r"^--truncation: "):
            truncation_list(text)
