"""What the states of optimizers and learning-rate schedules tell of a recipe: settings that were in force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torch import Tensor

from mdtree.recipes.recipe_findings import Findings, Place, containers, first, real, whole

# optimizers of torch by settings that no other one of them has
_BY_SETTING = (
    ("ns_steps", "muon"),
    ("dampening", "sgd"),
    ("momentum_decay", "nadam"),
    ("centered", "rmsprop"),
    ("lr_decay", "adagrad"),
    ("rho", "adadelta"),
    ("etas", "rprop"),
    ("lambd", "asgd"),
    ("history_size", "lbfgs"),
    ("beta2_decay", "adafactor"),
)
# by what they keep for every weight, where the settings do not tell
_BY_SLOTS = (("exp_inf", "adamax"), ("acc_delta", "adadelta"), ("square_avg", "rmsprop"))
# schedules of torch by settings
_SCHEDULES = (
    ({"T_max"}, "cosine"),
    ({"T_0", "T_mult"}, "cosine with restarts"),
    ({"total_steps", "_schedule_phases"}, "onecycle"),
    ({"milestones", "gamma"}, "multistep"),
    ({"step_size", "gamma"}, "step"),
    ({"max_lrs"}, "cyclic"),
    ({"patience", "factor"}, "plateau"),
    ({"start_factor", "end_factor"}, "linear"),
    ({"total_iters", "power"}, "polynomial"),
    ({"total_iters", "factor"}, "constant factor"),
    ({"gamma"}, "exponential"),
)
_NEARLY_ALL = 0.9
_MAX_PARAMETERS = 50_000


@dataclass(frozen=True, eq=False)
class OptimizerState:
    """One optimizer's state and where it stands.

    Parameters
    ----------
    place : Place
        Where it stands.
    group : mapping
        The settings of the group with most parameters, by their elements where the state shows their shapes.
    number : int
        Which group that is.
    parameters : int
        Of all groups.
    slots : mapping
        What is kept for one weight.
    steps : int or None
        Updates made, where the optimizer counts them.
    """

    place: Place
    group: Mapping[str, Any]
    number: int
    parameters: int
    slots: Mapping[str, Any]
    steps: int | None

    def at(self, setting: str) -> str:
        """Where a setting stands: "optimizer.param_groups[0].lr"."""
        return self.place.of(f"param_groups[{self.number}].{setting}")

    @property
    def name(self) -> str | None:
        """Which optimizer it is, by settings and slots that only it has."""
        if "betas" in self.group:
            return self._adam()
        for setting, name in _BY_SETTING:
            if setting in self.group:
                return name
        return next((name for slot, name in _BY_SLOTS if slot in self.slots), None)

    def _adam(self) -> str | None:
        if "momentum_decay" in self.group:
            return "nadam"
        if "exp_inf" in self.slots:
            return "adamax"
        if "amsgrad" in self.group:
            # older versions of torch write nothing that tells the two apart
            decoupled = self.group.get("decoupled_weight_decay")
            return ("adamw" if decoupled else "adam") if isinstance(decoupled, bool) else "adam or adamw"
        if "decoupled_weight_decay" in self.group:
            return "radam"
        return "adam or adamw" if "exp_avg_sq" in self.slots and "eps" in self.group else None


def optimizer_states(files: Mapping[str, Any]) -> list[OptimizerState]:
    """The optimizer states in what a checkpoint holds.

    Parameters
    ----------
    files : mapping of str to object
        Contents by file name; "" is the checkpoint itself.
    """
    found = []
    for file, content in files.items():
        for place, held in containers(content, file):
            groups = [one for one in first(held.get("param_groups")) if isinstance(one, Mapping)]
            if groups:
                found.append(_optimizer(place, groups, held.get("state")))
    return found


def chief(optimizers: list[OptimizerState]) -> OptimizerState | None:
    """The one that speaks for all: the only one, or one of those that agree, or the one with nearly all parameters."""
    if not optimizers:
        return None
    largest = max(optimizers, key=lambda one: one.parameters)
    told = {(one.name, real(_peak_of(one.group)[1]), real(one.group.get("weight_decay"))) for one in optimizers}
    everything = sum(one.parameters for one in optimizers)
    return largest if len(told) == 1 or largest.parameters >= _NEARLY_ALL * everything else None


def put_optimizer(findings: Findings, optimizer: OptimizerState) -> None:
    """Settings of an optimizer; of the rates only those that a schedule started from or reached, not the last one."""
    group = optimizer.group
    setting, rate = _peak_of(group)
    if setting != "lr":
        findings.put("learning_rate", rate, optimizer.at(setting))
    findings.put("optimizer", optimizer.name, f"{optimizer.place} (by its settings)")
    is_cycled = "base_momentum" in group  # a one-cycle schedule moves momentum, too: the last one says nothing
    if not is_cycled:
        findings.put("momentum", group.get("momentum"), optimizer.at("momentum"))
    for number, beta in enumerate(first(group.get("betas"), 2)):
        if number > 0 or not is_cycled:
            findings.put(f"beta{number + 1}", beta, optimizer.at(f"betas[{number}]"))
    findings.put("weight_decay", group.get("weight_decay"), optimizer.at("weight_decay"))


def put_last_rate(findings: Findings, optimizer: OptimizerState) -> None:
    """The rate of the last step: what is left where nothing tells of a schedule; 0 is the end of one."""
    if "swa_lr" not in optimizer.group:
        findings.put("learning_rate", optimizer.group.get("lr"), optimizer.at("lr"))


def put_steps(findings: Findings, optimizer: OptimizerState) -> None:
    """The number of updates, where the optimizer counts them."""
    findings.put("steps", optimizer.steps, optimizer.place.of("state[...].step"))


def put_schedules(findings: Findings, files: Mapping[str, Any]) -> None:
    """The name of the schedule, and the rate it starts from; of several only what they agree on."""
    entries: list[tuple[str, Any, str]] = []
    inner: set[int] = set()
    for place, held in (one for file, content in files.items() for one in containers(content, file)):
        is_schedule = ("last_epoch" in held and ("base_lrs" in held or "_last_lr" in held)) or "_schedulers" in held
        if id(held) in inner or not is_schedule:
            continue
        parts = [one for one in first(held.get("_schedulers"), 16) if isinstance(one, Mapping)]
        inner.update(map(id, parts))
        names = [_schedule(one) for one in parts] or [_schedule(held)]
        if all(names):
            entries.append(("schedule", " then ".join(str(name) for name in names), f"{place} (by its settings)"))
        rates = first((parts[0] if parts else held).get("base_lrs"))
        if len({real(rate) for rate in rates}) == 1 and "swa_lr" not in held and "anneal_epochs" not in held:
            entries.append(("learning_rate", rates[0], place.of("base_lrs[0]")))
    findings.put_agreeing(entries)


def _optimizer(place: Place, groups: list[Mapping[str, Any]], state: Any) -> OptimizerState:
    kept = dict(islice(state.items(), _MAX_PARAMETERS)) if isinstance(state, Mapping) else {}
    kept = {name: one for name, one in kept.items() if isinstance(one, Mapping)}
    sizes = [sum(_size(name, kept) for name in first(group.get("params"), _MAX_PARAMETERS)) for group in groups]
    number = sizes.index(max(sizes))
    decays = [real(group.get("weight_decay")) or 0.0 for group in groups]
    if not kept and len({real(_peak_of(group)[1]) for group in groups}) == 1 and any(decays):
        # biases and normalisation, many and small, are often exempted: the others stand for the network
        number = max(range(len(groups)), key=lambda one: (decays[one] > 0, sizes[one]))
    steps = [step for one in kept.values() if (step := whole(one.get("step"))) is not None]
    slots: Mapping[str, Any] = next(iter(kept.values()), {})
    return OptimizerState(place, groups[number], number, sum(sizes), slots, max(steps, default=None))


def _size(parameter: Any, kept: Mapping[Any, Mapping[str, Any]]) -> int:
    """Elements of a parameter, as what is kept for it has them; 1 where nothing is."""
    slots = kept.get(parameter, {}) if isinstance(parameter, str | int) else {}
    return max((one.numel() for one in slots.values() if isinstance(one, Tensor)), default=1)


def _peak_of(group: Mapping[str, Any]) -> tuple[str, Any]:
    """The largest rate the settings tell of: of a one-cycle schedule the top, of others where they started."""
    for setting in ("max_lr", "initial_lr"):
        if real(group.get(setting)) is not None and "swa_lr" not in group:
            return setting, group[setting]
    return "lr", group.get("lr")


def _schedule(held: Mapping[Any, Any]) -> str | None:
    return next((name for settings, name in _SCHEDULES if settings <= held.keys()), None)
