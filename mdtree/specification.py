"""How a data set or a network is named on the command line: ``name?key=value&key=value``, ``name:target?key=value``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mdtree.errors import InputError

Plain = int | float | bool | str
Kind = type[int] | type[float] | type[bool] | type[str] | tuple[str, ...]

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


@dataclass(frozen=True)
class Specification:
    """One parsed name. ``str()`` gives back the text it was parsed from, outer blanks aside.

    Parameters
    ----------
    name : str
        What stands before the first ``:`` or ``?``: ``digits``, ``npz``, ``package.module``.
    target : str, optional
        What stands between the first ``:`` and the first ``?`` after it: a path, or the callable of a module.
    options : dict of str to str, optional
        What stands after the ``?``, in the order given, still as text.

    Raises
    ------
    InputError
        If a part holds a character that would make it read back as something else.
    """

    name: str
    target: str = ""
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or set(self.name) & set(":?&="):
            raise InputError(f"{self.name!r} cannot name a data set or a network", "a name such as digits or mlp")
        if "?" in self.target:
            raise InputError(f"{self.target!r} holds a '?'", "a path without one", "rename the file")
        for key, value in self.options.items():
            if not key or set(key) & set("=&"):
                raise InputError(f"{key!r} cannot name an option of {self.name}", "key=value&key=value after the '?'")
            if "&" in value:
                raise InputError(f"option {key} of {self.name} holds an '&'", "key=value&key=value after the '?'")

    def __str__(self) -> str:
        target = f":{self.target}" if self.target else ""
        options = "&".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}{target}" + (f"?{options}" if options else "")

    def read(self, kinds: Mapping[str, Kind], defaults: Mapping[str, Plain] | None = None) -> dict[str, Plain | None]:
        """The options as values, each of the kind asked for.

        Parameters
        ----------
        kinds : mapping of str to int, float, bool, str or a tuple of the words allowed
            Every option that is known.
        defaults : mapping of str to value, optional
            The value of an option that is not given; ``None`` for an option that has none here.

        Returns
        -------
        dict of str to int, float, bool, str or None
            One entry for every key of `kinds`.

        Raises
        ------
        InputError
            If an option is not known or its text is not of its kind. Numbers must be finite.
        """
        for key in self.options:
            if key not in kinds:
                known = f"one of {', '.join(kinds)}" if kinds else f"no option: {self.name} has none"
                raise InputError(f"unknown option {key!r} of {self.name}", known)
        values: dict[str, Plain | None] = dict.fromkeys(kinds)
        values.update(defaults or {})
        for key, text in self.options.items():
            values[key] = _value(self.name, key, text, kinds[key])
        return values

    def values(self) -> dict[str, Plain]:
        """The options as the values they look like: ``16`` an int, ``0.1`` a float, ``true`` a bool, else text."""
        return {key: _plain(text) for key, text in self.options.items()}


def parse(text: str) -> Specification:
    """Read ``name``, ``name?key=value&key=value`` or ``name:target?key=value``.

    Only the first ``:`` parts name and target, so a path may hold more of them; a ``:`` after the first ``?`` belongs
    to an option's value.

    Parameters
    ----------
    text : str
        The specification as the user wrote it.

    Returns
    -------
    Specification

    Raises
    ------
    InputError
        If the text is empty, a target or an option is missing, or an option is given twice.
    """
    stripped = text.strip()
    head, question, tail = stripped.partition("?")
    name, colon, target = head.partition(":")
    if not name:
        raise InputError(f"the specification {text!r} has no name", "name?key=value&key=value")
    if colon and not target:
        raise InputError(f"{text!r} ends at its ':'", "name:PATH or module:callable")
    options: dict[str, str] = {}
    for pair in tail.split("&") if question else ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InputError(f"{pair!r} in {text!r} is not an option", "key=value&key=value after the '?'")
        if key in options:
            raise InputError(f"option {key!r} stands twice in {text!r}", "each option once")
        options[key] = value
    return Specification(name, target, options)


def shown(name: str) -> str:
    """A name from a file, fit to be printed: on one line, without control characters, not endless."""
    return (name if name.isprintable() else ascii(name))[:120]


def listing(names: Sequence[str], at_most: int = 5) -> str:
    """The first few names, and how many more there are: ``a, b, c, d, e and 7 more``."""
    rest = len(names) - at_most
    return ", ".join(shown(name) for name in names[:at_most]) + (f" and {rest} more" if rest > 0 else "")


def _value(name: str, key: str, text: str, kind: Kind) -> Plain:
    if isinstance(kind, tuple):
        if text not in kind:
            raise InputError(f"{key}={text} of {name}", f"one of {', '.join(kind)}")
        return text
    if kind is str:
        return text
    if kind is bool:
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise InputError(f"{key}={text} of {name}", "true or false")
    try:
        number = int(text) if kind is int else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{key}={text} of {name}", "a whole number" if kind is int else "a finite number")
    return number


def _plain(text: str) -> Plain:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
