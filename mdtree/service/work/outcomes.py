"""What a client is told of a child's end, in words that hold nothing of the server's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mdtree.service.jobs import Blame, Failure
from mdtree.service.work.endings import End, Ending

_FIELDS = {
    "--model": "architecture",
    "--data": "data",
    "--sibling": "siblings",
    "--weights": "weights",
    "--init": "init",
    "--data-checked": "data_checked",
    "--precision": "precision",
}
"""An option of the command line, as errors name it, and the field of a request that says the same."""

_ADVICE_TO_TRUST = re.compile(r"add --trust [^;]*?, or |; if the file is yours add --trust[^;]*")
"""Nothing that a client sends is ever trusted."""

_ADVICE_TO_NAME_A_FUNCTION = "name it with --model package.module:factory?key=value"

_ADVICE_ON_PATHS = re.compile(r"; check the path$")
"""A client names no path."""

_OPTION = re.compile("|".join(rf"{option}(?![\w-])" for option in _FIELDS))


def failure_of(ending: Ending, stage: str, seconds: float, memory_bytes: int | None, hidden: Sequence[str]) -> Failure:
    """The failure of a job whose child ended so, for every end but `RETURNED`, `DIED` and `STOPPED`.

    Parameters
    ----------
    ending : Ending
    stage : str
        "reading" or "measuring".
    seconds, memory_bytes : float, int or None
        What the child was given.
    hidden : sequence of str
        Folders of the server's, which no sentence names.
    """
    if ending.end is End.REFUSED:
        return Failure(Blame.INPUT, for_client(ending.message, hidden))
    if ending.end is End.SHORT:
        return Failure(Blame.RESOURCES, for_client(ending.message, hidden))
    if ending.end is End.OUT_OF_MEMORY:
        allowed = "" if memory_bytes is None else f" ({memory_bytes / 2**30:.1f} GiB)"
        return Failure(
            Blame.RESOURCES,
            f"{stage} takes more memory than this server allows{allowed}; send a smaller network or fewer samples",
        )
    if ending.end is End.OUT_OF_TIME:
        return Failure(
            Blame.RESOURCES,
            f"{stage} takes longer than this server allows ({seconds:g} s); send a smaller network or fewer samples",
        )
    if ending.end is End.FILE_TOO_LARGE:
        return Failure(
            Blame.RESOURCES, f"{stage} takes more space than this server allows; send smaller files or fewer samples"
        )
    if ending.end is End.DISK_FULL:
        return DISK_FULL
    if ending.end is End.FAULT:
        return Failure(Blame.SERVER, for_client(ending.message.split("\n", 1)[0], hidden))
    return DEFECT


DISK_FULL = Failure(Blame.SERVER, "the server's disk is full; send it again later")
DEFECT = Failure(
    Blame.SERVER, "a defect of the service ended this job; its operator finds what happened in the log, by the job's id"
)


def for_client(sentence: str, hidden: Sequence[str]) -> str:
    """An error's sentence, with the fields of a request in place of options, and without folders of the server's."""
    for folder in sorted(hidden, key=len, reverse=True):
        sentence = sentence.replace(f"{folder.rstrip('/')}/", "").replace(folder, "the server")
    sentence = _ADVICE_ON_PATHS.sub("", sentence)
    sentence = _ADVICE_TO_TRUST.sub("", sentence).replace(_ADVICE_TO_NAME_A_FUNCTION, "name its architecture")
    return _OPTION.sub(lambda found: _FIELDS[found.group()], sentence)
