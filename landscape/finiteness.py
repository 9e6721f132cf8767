"""Where numbers that are not finite come from."""

from __future__ import annotations

import torch
from torch import Tensor

from landscape.inputs import sample_count, tensors
from landscape.network import evaluating
from landscape.objective import Objective


def not_finite(objective: Objective) -> str | None:
    """Which inputs, or else which logits or losses, are NaN or infinite, in words; None where all are finite."""
    bad: dict[str, list[Tensor]] = {"inputs": [], "logits": [], "losses": []}
    with evaluating():
        for batch in objective.batches():
            inputs, count = (batch if objective.task is None else batch[0]), sample_count(batch)
            floating = [t for t in tensors(inputs) if t.is_floating_point() and t.dim() and len(t) == count]
            bad["inputs"].append(_bad_rows(floating, count))
            if objective.task is not None:
                logits = objective.evaluate(batch)
                bad["logits"].append(_bad_rows([logits], count))
                bad["losses"].append(_bad_rows([objective.task.losses(logits.double(), batch[1])], count))
    for name, parts in bad.items():
        found = torch.cat(parts).nonzero().flatten().tolist() if parts else []
        if found:
            samples = f"{len(found)} of {objective.samples} samples (first: {found[0]})"
            return f"NaN or infinite values in the {name} of {samples}"
    return None


def _bad_rows(values: list[Tensor], count: int) -> Tensor:
    """Samples with a value that is not finite in any of the tensors, on the CPU."""
    rows = torch.zeros(count, dtype=torch.bool)
    for value in values:
        rows |= ~torch.isfinite(value.reshape(count, -1)).all(1).cpu()
    return rows
