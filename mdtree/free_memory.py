"""How much memory is free, and data that would not fit refused before they are read."""

from __future__ import annotations

from pathlib import Path

from mdtree.errors import ResourceError

MEMORY_SHARE = 0.5
"""A data set may take this share of the memory that is free: what is measured on it needs the rest."""

_CONTROL_GROUP = Path("/sys/fs/cgroup")
_MEMORY_INFORMATION = Path("/proc/meminfo")


def check_memory(what: str, size: int, mend: str) -> None:
    """Refuse data of `size` bytes that take more than `MEMORY_SHARE` of the free memory.

    Where the system does not say how much is free, nothing is refused.

    Raises
    ------
    ResourceError
        Naming `what`, both sizes and the `mend`.
    """
    free = free_memory()
    if free is not None and size > MEMORY_SHARE * free:
        raise ResourceError(
            f"{what} would take {size / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free",
            f"at most {100 * MEMORY_SHARE:.0f} % of that",
            mend,
        )


def free_memory() -> int | None:
    """Bytes that can be taken without swapping, within the limit of a container; None where Linux does not say."""
    known = [size for size in (_free_on_machine(), _free_in_control_group()) if size is not None]
    return min(known, default=None)


def _free_on_machine() -> int | None:
    try:
        lines = _MEMORY_INFORMATION.read_text().splitlines()
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)
    except (OSError, ValueError):
        return None


def _free_in_control_group() -> int | None:
    try:
        limit, used = ((_CONTROL_GROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        return None if limit == "max" else max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return None
