"""The one notation for data sets and networks: `name:target?key=value&key=value`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdtree.errors import InputError
from mdtree.specification import Specification, listing, parse, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("digits", Specification("digits")),
        ("mlp?width=16&depth=2", Specification("mlp", "", {"width": "16", "depth": "2"})),
        ("npz:sets/half.npz", Specification("npz", "sets/half.npz")),
        ("package.module:make?width=16", Specification("package.module", "make", {"width": "16"})),
        (r"npz:C:\sets\half.npz?train=5", Specification("npz", r"C:\sets\half.npz", {"train": "5"})),
        ("idx:/sets/2024:06?seed=1", Specification("idx", "/sets/2024:06", {"seed": "1"})),
        ("m:f?url=http://host:80/a?b&note=a=b", Specification("m", "f", {"url": "http://host:80/a?b", "note": "a=b"})),
        ("m:f?empty=", Specification("m", "f", {"empty": ""})),
    ],
)
def test_parse_takes_the_parts_apart_and_str_puts_them_together(text: str, expected: Specification) -> None:
    assert parse(text) == expected
    assert str(expected) == text


def test_outer_blanks_do_not_count() -> None:
    assert str(parse("  digits?train=5\n")) == "digits?train=5"


@given(
    name=st.text(st.characters(exclude_characters=":?&="), min_size=1).filter(lambda s: s == s.strip()),
    target=st.text(st.characters(exclude_characters="?")).filter(lambda s: s == s.strip()),
    options=st.dictionaries(
        st.text(st.characters(exclude_characters="=&"), min_size=1), st.text(st.characters(exclude_characters="&"))
    ),
)
def test_whatever_can_be_said_reads_back_as_itself(name: str, target: str, options: dict[str, str]) -> None:
    specification = Specification(name, target, options)
    text = str(specification)
    if text == text.strip():
        assert parse(text) == specification


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the specification '' has no name; expected name?key=value&key=value"),
        ("?train=5", "the specification '?train=5' has no name; expected name?key=value&key=value"),
        ("npz:", "'npz:' ends at its ':'; expected name:PATH or module:callable"),
        ("digits?", "'' in 'digits?' is not an option; expected key=value&key=value after the '?'"),
        ("digits?train", "'train' in 'digits?train' is not an option; expected key=value&key=value after the '?'"),
        ("digits?=5", "'=5' in 'digits?=5' is not an option; expected key=value&key=value after the '?'"),
        (
            "digits?train=5&train=6",
            "option 'train' stands twice in 'digits?train=5&train=6'; expected each option once",
        ),
        ("a=b?c=d", "'a=b' cannot name a data set or a network; expected a name such as digits or mlp"),
    ],
)
def test_what_cannot_be_parsed_is_said_in_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "parts", [("a", "b?c", {}), ("a", "", {"k=": "v"}), ("a", "", {"": "v"}), ("a", "", {"k": "v&w"})]
)
def test_a_part_that_would_read_back_differently_is_refused(parts: tuple[str, str, dict[str, str]]) -> None:
    with pytest.raises(InputError):
        Specification(*parts)


def test_options_are_read_by_their_kind_and_defaults_fill_in() -> None:
    specification = parse("digits?train=160&label_noise=1e-1&shuffle=Yes&test=all&note=7")
    kinds = {"train": int, "label_noise": float, "shuffle": bool, "test": ("half", "all"), "note": str, "seed": int}
    assert specification.read({**kinds, "classes": int}, {"seed": 3, "train": 9}) == {
        "train": 160,
        "label_noise": 0.1,
        "shuffle": True,
        "test": "all",
        "note": "7",
        "seed": 3,
        "classes": None,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("digits?trian=5", "unknown option 'trian' of digits; expected one of train, noise, flag, test"),
        ("digits?train=1.5", "train=1.5 of digits; expected a whole number"),
        ("digits?train=many", "train=many of digits; expected a whole number"),
        ("digits?noise=nan", "noise=nan of digits; expected a finite number"),
        ("digits?noise=inf", "noise=inf of digits; expected a finite number"),
        ("digits?noise=much", "noise=much of digits; expected a finite number"),
        ("digits?flag=2", "flag=2 of digits; expected true or false"),
        ("digits?test=ALL", "test=ALL of digits; expected one of half, all"),
    ],
)
def test_options_of_the_wrong_kind_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text).read({"train": int, "noise": float, "flag": bool, "test": ("half", "all")})
    assert str(caught.value) == message


def test_an_option_where_none_exists_is_refused() -> None:
    with pytest.raises(InputError, match=r"^unknown option 'a' of x; expected no option: x has none$"):
        parse("x?a=1").read({})


def test_values_look_like_what_they_are() -> None:
    values = parse("m:f?a=16&b=0.5&c=true&d=False&e=relu&f=1e-3&g=").values()
    assert values == {"a": 16, "b": 0.5, "c": True, "d": False, "e": "relu", "f": 0.001, "g": ""}
    assert [type(value) for value in values.values()] == [int, float, bool, bool, str, float, str]


def test_a_long_listing_is_cut_and_counted() -> None:
    assert listing(["a", "b"]) == "a, b"
    assert listing(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_a_name_from_a_file_cannot_break_the_line_or_colour_the_terminal() -> None:
    assert shown("layer1.weight") == "layer1.weight"
    assert shown("a\n\x1b[31mb") == r"'a\n\x1b[31mb'"
    assert listing(["a\n", "b"]) == r"'a\n', b"
    assert len(shown("x" * 10_000)) == 120
