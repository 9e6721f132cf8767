"""The summary of zoos and the state of a build as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mdtree.build_status import BuildRecord, BuildStatus
from mdtree.report import table
from mdtree.seed_halves import HalfAgreement
from mdtree.specification import shown
from mdtree.zoo_summary import LEAST_CAUSE_SHARE, FamilySummary, QuestionCount, Trend

SHORT = {
    "temperature_too_low": "too low",
    "temperature_too_high": "too high",
    "model_too_small": "too small",
    "too_little_data": "too little",
    "temperature": "temperature",
    "healthy": "healthy",
    "ambiguous": "ambiguous",
    "censored": "censored",
}
"""Label -> heading of its column. `temperature` answers the questions of model size and data: not this, but that."""

AXIS_WORDS = {
    "width": "width",
    "train_size": "training samples",
    "learning_rate": "learning rate",
    "batch_size": "batch size",
    "temperature": "temperature",
    "weight_decay": "weight decay",
    "label_noise": "label noise",
}
"""Column -> its name, in the order in which axes are told."""

_NOTES = """\
Cells, by the label that more than half of a cell's networks carry. Ambiguous: too close to call. Censored: decided
beyond the edge of the grid. Too low, too high: temperature; too small: model; too little: data."""


def summary_text(summaries: Sequence[FamilySummary]) -> str:
    """All families in one table where there are several, then a section for each."""
    parts = [overview_text(summaries)] if len(summaries) > 1 else []
    parts += [family_text(summary) for summary in summaries]
    return "\n\n".join([*parts, _NOTES])


def overview_rows(summaries: Sequence[FamilySummary]) -> list[tuple[str, ...]]:
    """A heading and one row per family; networks `per second` of the clock and `per worker` second."""
    head = ("family", "cells", "networks", "build", "per second", "per worker", "diverged", "ambiguous", "rarest")
    rows: list[tuple[str, ...]] = [head]
    for s in summaries:
        verdict = s.questions[-1]
        rarest = min(s.cause_shares.items(), key=lambda item: item[1]) if s.cause_shares else None
        rows.append(
            (
                shown(s.family),
                f"{s.cells:,}",
                f"{s.networks:,}",
                duration(s.build.wall_seconds) if s.build else "-",
                rate(s.build.networks_per_second) if s.build else "-",
                rate(s.build.networks_per_worker_second) if s.build else "-",
                f"{s.diverged:,}",
                percent(verdict.share("ambiguous")) if verdict.answerable else "-",
                f"{SHORT[rarest[0]]} {percent(rarest[1])}" if rarest else "-",
            )
        )
    return rows


def overview_text(summaries: Sequence[FamilySummary]) -> str:
    """One line per family."""
    note = "  per second: networks by the clock; per worker: of one worker's time; rarest: the cause of fewest cells"
    return f"{table(overview_rows(summaries), right=range(1, 8))}\n{note}"


def family_text(summary: FamilySummary) -> str:
    """One family: what there is, what it took, its labels and how far they repeat."""
    facts = [("cells", cells_text(summary))]
    facts += [(AXIS_WORDS[name], axis_text(values)) for name, values in varied_axes(summary).items()]
    facts += [("fixed", fixed) for fixed in [fixed_text(summary)] if fixed]
    facts += [("build", "-")] if summary.build is None else list(build_rows(summary.build))
    facts += [("optimum", optimum_text(summary))]
    facts += [(f"by {AXIS_WORDS[trend.axis]}", trend_text(trend)) for trend in summary.trends]
    text = f"{shown(summary.family)}  ({shown(summary.table)})\n{table(facts, right=())}"
    text += f"\n\n{table(label_rows(summary.questions), right=range(1, 9))}"
    text += f"\n{causes_text(summary)}"
    if summary.agreement is None:
        return text + "\n\n  Means over seeds: how far labels repeat between seeds is not known."
    return text + f"\n\n{agreement_text(summary.agreement)}"


def cells_text(summary: FamilySummary) -> str:
    """Cells, networks, seeds, diverged networks."""
    fewest, most = summary.seeds
    seeds = "means over seeds" if most == 0 else f"{fewest} seeds" if fewest == most else f"{fewest} to {most} seeds"
    return f"{summary.cells:,} ({seeds}), {summary.networks:,} networks, {summary.diverged:,} of them diverged"


def axis_text(values: Sequence[float]) -> str:
    """Values of an axis: all where they are few, else the ends and how many."""
    texts = [f"{value:g}" for value in values]
    return ", ".join(texts) if len(texts) <= 8 else f"{texts[0]} ... {texts[-1]} ({len(texts)} values)"


def varied_axes(summary: FamilySummary) -> dict[str, tuple[float, ...]]:
    """The axes with two values or more; temperature only where neither rate nor batch size tells it."""
    found = {name: v for name in AXIS_WORDS if len(v := summary.axes.get(name, ())) > 1}
    if "learning_rate" in found or "batch_size" in found:
        found.pop("temperature", None)
    return found


def fixed_text(summary: FamilySummary) -> str:
    """Rate, batch size, weight decay, label noise, optimizer and schedule where a family has one value of them."""
    axes = ("learning_rate", "batch_size", "weight_decay", "label_noise")
    parts = [f"{AXIS_WORDS[name]} {v[0]:g}" for name in axes if len(v := summary.axes.get(name, ())) == 1]
    names = ("optimizer", "schedule", "budget", "augmentation")
    settings = {name: summary.settings[name] for name in names if len(summary.settings.get(name, ())) == 1}
    parts += [f"{name} {value}" for name, (value,) in settings.items() if (name, value) != ("augmentation", "none")]
    return shown(", ".join(parts))


def build_rows(build: BuildRecord) -> Iterator[tuple[str, str]]:
    """What a build took, as two lines at most: by the clock, and summed over workers."""
    where = f" on {build.cores} core{'s' * (build.cores != 1)}" if build.cores else ""
    if build.workers:
        where = f" on {build.workers} worker{'s' * (build.workers != 1)}"
    clock = f"{duration(build.wall_seconds)}{where}, {rate(build.networks_per_second)} networks/s"
    named = "".join(f"; {count:,} trained in a {way}" for way, count in build.trained.items() if count)
    yield "build", (clock if build.wall_seconds is not None else "interrupted and gone on with") + named
    if build.worker_seconds is not None:
        train, measure = duration(build.train_seconds), duration(build.measure_seconds)
        each = rate(build.networks_per_worker_second)
        yield "", f"training {train} and measuring {measure} over all workers: {each} networks/s for each"


def optimum_text(summary: FamilySummary) -> str:
    """Where the best temperatures lie."""
    found = summary.optimum
    if not found.rows:
        return "the temperature axis has no inside (fewer than 3 values)"
    text = f"best temperature inside the axis in {found.inside} of {found.rows} rows"
    edges = [f"{n} at the {end} end" for n, end in ((found.coldest, "cold"), (found.hottest, "hot")) if n]
    return text + (f" ({', '.join(edges)})" if edges else "")


def trend_text(trend: Trend) -> str:
    """Test error from the smallest to the largest value, at the best temperature."""
    steps = len(trend.values) - 1
    return (
        f"error {trend.errors[0]:.1f} % at {trend.values[0]:g}, {trend.errors[-1]:.1f} % at {trend.values[-1]:g}; "
        f"falls at {trend.steps_down} of {steps} step{'s' * (steps != 1)}"
    )


def label_rows(questions: Sequence[QuestionCount]) -> list[tuple[str, ...]]:
    """A heading and one row per question; a label that a question does not have is left empty."""
    rows: list[tuple[str, ...]] = [("question", *SHORT.values())]
    for q in questions:
        counts = [f"{q.cells[label]:,}" if q.cells.get(label) else "" for label in SHORT]
        undecided = [f"{n} {percent(q.share(label))}" if n else "-" for label, n in zip(SHORT, counts, strict=True)]
        rows.append((q.question.replace("_", " "), *counts[:-2], *undecided[-2:]))
    return rows


def causes_text(summary: FamilySummary) -> str:
    """Share of each cause among the cells that have one; where no verdict can be told, which questions can."""
    if summary.cause_shares is None:
        told = [q.question.replace("_", " ") for q in summary.questions if q.answerable]
        return "  No verdict names a cause. " + (
            f"The grid answers: {', '.join(told)}." if told else "The grid answers no question."
        )
    shares = ", ".join(f"{SHORT[cause]} {percent(share)}" for cause, share in summary.cause_shares.items())
    rare = [SHORT[cause] for cause, share in summary.cause_shares.items() if share < LEAST_CAUSE_SHARE]
    text = f"  Causes among cells that are not healthy: {shares}."
    few = f"\n  Under {percent(LEAST_CAUSE_SHARE)}, too few for a tree to learn: {', '.join(rare)}."
    return text + few if rare else text


def agreement_rows(agreement: HalfAgreement) -> list[tuple[str, ...]]:
    """A heading and one row per question that the halves can answer."""
    rows: list[tuple[str, ...]] = [("question", "cells both answer", "agree", "one or both abstain")]
    for q in agreement.questions:
        if q.abstain is not None:
            agree = "-" if q.agree is None else percent(q.agree, 1)
            rows.append((q.question.replace("_", " "), f"{q.cells:,.0f}", agree, percent(q.abstain, 1)))
    return rows


def agreement_text(agreement: HalfAgreement) -> str:
    """How far the labels of two halves of the seeds agree."""
    return f"  {halves_text(agreement)}\n{table(agreement_rows(agreement), right=range(1, 4))}"


def halves_text(agreement: HalfAgreement) -> str:
    """How the seeds were halved."""
    one, other = agreement.sizes
    how = f"mean over {agreement.splits} splits" if agreement.splits > 1 else "one split"
    single = "; a half of one seed is not cross-fitted" if one == 1 else ""
    return f"Labels from {one} seed{'s' * (one != 1)} against those from {other} others ({how}{single})"


def percent(share: float, digits: int = 0) -> str:
    """A share (0...1) as text."""
    return f"{100 * share:.{digits}f} %"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them; `-` where not known."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 or seconds == 0 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def rate(per_second: float | None) -> str:
    """Networks per second, two significant digits; `-` where not known."""
    if per_second is None:
        return "-"
    return f"{per_second:.0f}" if per_second >= 10 else f"{per_second:.2g}"


def status_text(status: BuildStatus) -> str:
    """How far a build is, in at most three lines."""
    diverged = f", {status.diverged:,} of them diverged" if status.diverged else ", none diverged"
    if status.state == "complete":
        return f"{shown(status.table)}: complete, {status.networks_done:,} networks{diverged}"
    planned = "" if status.networks_planned is None else f" of {status.networks_planned:,}"
    lines = [
        f"{shown(status.table)}: {status.units_done} of {status.units_planned} units, "
        f"{status.networks_done:,}{planned} networks{diverged}"
    ]
    if status.units_done == status.units_planned:
        lines.append("  all units are done; labels and the table are still to be made")
    elif status.networks_per_second is None:
        lines.append("  no unit is finished yet: the rate is not known")
    else:
        left = duration(status.seconds_left)
        lines.append(f"  {rate(status.networks_per_second)} networks/s so far; about {left} left at this rate")
    stopped = "  nobody is at work: run the same command again and it goes on"
    return "\n".join([*lines, f"  at work: {status.writer}" if status.writer else stopped])
