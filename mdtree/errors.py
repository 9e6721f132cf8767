"""The errors of mdtree: one family, each with the sentence a person needs and the exit code a script needs."""

from __future__ import annotations


class MDTreeError(Exception):
    """Base of every error mdtree raises on purpose.

    Parameters
    ----------
    got : str
        What was found, as a clause that starts the sentence ("model.pt is empty").
    expected : str, optional
        What would have been right.
    mend : str, optional
        What the user can do about it, as an imperative.

    Attributes
    ----------
    exit_code : int
        What the command line returns when this error ends it.
    """

    exit_code = 70

    def __init__(self, got: str, expected: str = "", mend: str = "") -> None:
        self.got = got
        self.expected = expected
        self.mend = mend
        super().__init__("; ".join(part for part in (got, expected and f"expected {expected}", mend) if part))


class InputError(MDTreeError, ValueError):
    """Something the user gave cannot be used: a file, a specification, a table, an option (exit code 2)."""

    exit_code = 2


class ResourceError(MDTreeError):
    """The machine ran out of something: memory, disk (exit code 3)."""

    exit_code = 3
