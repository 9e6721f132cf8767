"""What the places of a checkpoint tell about training, gathered: the first, most trusted one that speaks is heard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from torch import Tensor

from mdtree.reading.inert_objects import InertObject
from mdtree.recipes.recipe import RecipeValue, Recorded
from mdtree.specification import shown

_LARGEST_WHOLE = 2**53
_LONGEST_NUMBER = 32
_LONGEST_TEXT = 120
_MAX_CONTAINERS = 10_000
_MAX_LISTED = 16
# accuracies that are percentages by custom, where others may be shares
_PERCENT_WORDS = ("acc1", "top1", "prec1", "percent", "pct")


@dataclass(eq=False)
class Findings:
    """Values found so far; what was found first stays.

    Attributes
    ----------
    values, sources : dict
        By the recipe's names.
    recorded : dict of str to Recorded
        Scores.
    notes : list of str
        Contradictions, as sentences.
    """

    values: dict[str, RecipeValue] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    recorded: dict[str, Recorded] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    contradicted: set[str] = field(default_factory=set)

    def put(self, name: str, value: Any, source: str) -> None:
        """Keep a value that is plain, finite and possible, if none is known."""
        plain = _READERS[name](value)
        if plain is not None and name not in self.values and name not in self.contradicted:
            self.values[name] = plain
            self.sources[name] = source[:300]

    def put_agreeing(self, entries: Iterable[tuple[str, Any, str]]) -> None:
        """Keep values of places that are trusted alike: those that contradict each other are left out, with a note."""
        heard: dict[str, list[tuple[RecipeValue, str]]] = {}
        for name, value, source in entries:
            plain = _READERS[name](value)
            if plain is not None:
                heard.setdefault(name, []).append((plain, source))
        for name, told in heard.items():
            if name in self.values or name in self.contradicted:
                continue
            if len({value for value, _ in told}) == 1:
                self.put(name, *told[0])
            else:
                self.contradicted.add(name)
                places = " and ".join(f"{value} ({source})" for value, source in told[:2])
                self.notes.append(f"the file tells two values of {name.replace('_', ' ')}: {places}; neither is used")

    def record(self, name: str, value: Any, source: str) -> None:
        """Keep a score that training wrote down; an accuracy is brought to percent by `percent`."""
        number = percent(value, source) if name.endswith("_percent") else real(value)
        if number is not None and name not in self.recorded and (name.endswith("_percent") or number >= 0):
            self.recorded[name] = Recorded(number, source[:300])


@dataclass(frozen=True)
class Place:
    """Where something stands: a path of keys, and the file where it is not the checkpoint itself."""

    path: str = ""
    file: str = ""

    def __str__(self) -> str:
        return f"{self.path} in {self.file}" if self.path and self.file else self.path or self.file

    def of(self, rest: str) -> str:
        """The place of an entry, in words: "optimizer.param_groups[0].lr", "param_groups[0].lr in optimizer.pt"."""
        return str(Place(f"{self.path}.{rest}" if self.path else rest, self.file))


def real(value: Any) -> float | None:
    """A finite number out of an int, a float, a tensor of one element, or a text such as "1e-3" (YAML)."""
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 and not value.is_complex() and value.device.type == "cpu" else None
    if isinstance(value, str):
        try:
            value = float(value) if len(value) <= _LONGEST_NUMBER else None
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300 or value != value:
        return None
    return float(value)


def whole(value: Any) -> int | None:
    """A whole number that a float can tell from its neighbours."""
    number = real(value)
    return int(number) if number is not None and number.is_integer() and abs(number) < _LARGEST_WHOLE else None


def text(value: Any) -> str | None:
    """A short text on one line."""
    return value if isinstance(value, str) and value.isprintable() and 0 < len(value) <= _LONGEST_TEXT else None


def percent(value: Any, source: str) -> float | None:
    """An accuracy in percent, out of percent or a share; None where it could be either.

    Up to 1 it is a share, above it percent, but where the name says percent ("top1", "acc1"). Exactly 1 is all or one
    in a hundred: None.
    """
    number = real(value)
    if number is None or not 0 <= number <= 100:
        return None
    if any(word in source.lower() for word in _PERCENT_WORDS):
        return number if number > 1 or number == 0 else None
    return None if number == 1 else number if number > 1 else 100 * number


def containers(content: Any, file: str = "", depth: int = 3) -> Iterator[tuple[Place, Mapping[Any, Any]]]:
    """Every dict in a nest, and the attributes of every object, with its place; each once, bounded."""
    level: list[tuple[str, Any]] = [("", content)] if _is_container(content) else []
    entered: dict[int, Any] = {}
    for _ in range(depth + 1):
        below: list[tuple[str, Any]] = []
        for path, value in level:
            if id(value) in entered or len(entered) >= _MAX_CONTAINERS:
                continue
            entered[id(value)] = value
            if isinstance(value, list | tuple):
                below += [(f"{path}[{i}]", one) for i, one in enumerate(value[:_MAX_LISTED]) if _is_container(one)]
            else:
                held = value.attributes if isinstance(value, InertObject) else value
                yield Place(path, file), held
                below += [(joined(path, name), one) for name, one in held.items() if _is_container(one)]
        level = below


def joined(path: str, name: Any) -> str:
    """The path of an entry: "optimizer" and "param_groups" give "optimizer.param_groups"."""
    last = shown(str(name)[:200])
    return f"{path}.{last}" if path else last


def first(values: Any, most: int = 1000) -> list[Any]:
    """At most so many elements of a list or tuple; none of anything else."""
    return list(islice(values, most)) if isinstance(values, list | tuple) else []


def _is_container(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple | InertObject)


def _positive(value: Any) -> float | None:
    number = real(value)
    return number if number is not None and number > 0 else None


def _share(value: Any) -> float | None:
    number = real(value)
    return number if number is not None and 0 <= number < 1 else None


def _not_negative(value: Any) -> float | None:
    number = real(value)
    return number if number is not None and number >= 0 else None


def _count(value: Any) -> int | None:
    number = whole(value)
    return number if number is not None and number > 0 else None


def _epochs(value: Any) -> int | float | None:
    number = _positive(value)
    return int(number) if number is not None and number.is_integer() and number < _LARGEST_WHOLE else number


def _word(value: Any) -> str | None:
    word = text(value)
    return None if word is None else word.lower()


_READERS: Mapping[str, Callable[[Any], RecipeValue]] = {
    "learning_rate": _positive,
    "batch_size": _count,
    "epochs": _epochs,
    "planned_epochs": _epochs,
    "steps": _count,
    "optimizer": _word,
    "momentum": _share,
    "beta1": _share,
    "beta2": _share,
    "weight_decay": _not_negative,
    "schedule": _word,
    "warmup_steps": _count,
    "warmup_share": _share,
    "train_size": _count,
    "label_smoothing": _share,
    "seed": whole,
}
