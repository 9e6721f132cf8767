"""Stand-ins for the values of a pickle: what they are and how much of it, and nothing else."""

from __future__ import annotations

from typing import Any


class Global:
    """A class or function that was named."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Made:
    """An object of a class that torch does not know."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Tuple:
    """A tuple, and the number of values in it when one in another is counted through."""

    __slots__ = ("items", "size")

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.size: int = min(1 + sum(one.size if isinstance(one, Tuple) else 1 for one in items), 2**60)


class Dict:
    """A dict: how many items were set, how many values odd keys hold, and the names among its first keys."""

    __slots__ = ("count", "names", "odd")

    def __init__(self) -> None:
        self.count = self.odd = 0
        self.names: set[str] | None = None  # most dicts of a hostile file stay empty

    def names_fit(self, taken: frozenset[str]) -> bool:
        """Whether its items can become attributes of something that has the attributes `taken`."""
        names = self.names or set()
        return self.count == len(names) and not names & taken


class Storage:
    """A storage of so many elements."""

    __slots__ = ("elements",)

    def __init__(self, elements: int) -> None:
        self.elements = elements


class Tensor:
    """A tensor."""

    __slots__ = ()


class Opaque:
    """A value that nothing else may be made of: a set, bytes, a device."""

    __slots__ = ()
