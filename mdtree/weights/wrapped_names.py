"""Names of weights without what wrappers put into them: data parallelism, compiling, sharding, averaging."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_ANYWHERE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
_BEFORE_ALL = "module."
_COUNT = "n_averaged"


def bare_names(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Put weights under the names of the bare network.

    ``module.`` (DataParallel, AveragedModel) goes where every name starts with it: further in it may be the network's
    own. What compiling, sharding and recomputing put in (``_orig_mod`` ...) goes wherever it stands, unless two names
    would become one. AveragedModel's count ``n_averaged`` goes.

    Parameters
    ----------
    state : mapping of str to Tensor
        As it was saved.

    Returns
    -------
    dict of str to Tensor
        In the same order.
    tuple of str
        What was taken off: ("_orig_mod.", "module.").
    """
    bare: dict[str, Tensor] = dict(state)
    taken_off: dict[str, None] = {}
    while (step := _one_less(bare)) is not None:
        what, bare = step
        taken_off[what] = None
    return bare, tuple(taken_off)


def _one_less(state: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]] | None:
    """The names with one thing taken off, and what it was; None if there is nothing left to take off."""
    if _COUNT in state and len(state) > 1:
        return _COUNT, {name: tensor for name, tensor in state.items() if name != _COUNT}
    for segment in _ANYWHERE:
        shorter = {".".join(p for p in name.split(".") if p != segment): tensor for name, tensor in state.items()}
        if len(shorter) == len(state) and "" not in shorter and shorter.keys() != state.keys():
            return f"{segment}.", shorter
    if state and all(name.startswith(_BEFORE_ALL) and name != _BEFORE_ALL for name in state):
        return _BEFORE_ALL, {name.removeprefix(_BEFORE_ALL): tensor for name, tensor in state.items()}
    return None
