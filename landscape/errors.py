"""What the landscape package raises: one sentence of what was got, what was expected and how to mend it."""

from __future__ import annotations


class LandscapeError(ValueError):
    """The measurement cannot be made as asked.

    Parameters
    ----------
    got : str
        What was found, as a clause that starts the sentence.
    expected : str, optional
        What would have been right.
    mend : str, optional
        What the caller can do about it.
    """

    def __init__(self, got: str, expected: str = "", mend: str = "") -> None:
        self.got = got
        self.expected = expected
        self.mend = mend
        super().__init__("; ".join(part for part in (got, expected and f"expected {expected}", mend) if part))
