"""A diagnosis, a record or scores as text. Everything printed here is read from the result, nothing derived again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mdtree.composition import QUESTION_TEXT
from mdtree.cut_points import format_threshold
from mdtree.diagnosis import Candidate, Diagnosis
from mdtree.nodes import Step
from mdtree.opened_text import opened_text
from mdtree.record import Record

FLAG_TEXT = {
    "not_training": "the network is near chance on its own training data: it did not train",
    "other_protocol": "measured by another protocol than the zoo: thresholds may not apply",
    "foreign_task": "another data set than the zoo's: what a change gained there may not be what it gains here",
    "set_too_alike": "the set is too alike to be ranked: each checkpoint by itself",
    "readings_disagree": "growth and gradient do not point to the same side: no temperature is blamed",
    "siblings_share_start": "the siblings were fine-tuned from the same weights: such networks lie in one basin and "
    "agree, so that connectivity and similarity look better than between networks from fresh weights, as the zoos' are",
    "outside_zoo": "out of the zoo: further from its networks than they are from one another; trust the verdict less",
    "resembles_public_table": "more like the public ResNet table (hot there is a noise floor) than like the zoo",
    "single_class": "all training labels are of one class: there is nothing to learn",
    "eigenvalues_not_converged": "the top eigenvalues did not reach the protocol's tolerance",
    "trace_precision_not_reached": "the trace did not reach the protocol's precision",
    "trace_negative": "the trace of the Hessian is negative: far from a minimum",
    "sibling_too_near": "a sibling is nearer than a fresh training could be: is it another seed?",
    "eigenvalue_precision_not_reached": "the top eigenvalue did not reach the protocol's precision on all its samples",
    "gradient_below_noise": "the gradient is smaller than its sampling error, which stands in its place",
    "finite_difference_products": "a layer has no second derivative: Hessian products are differences of gradients",
    "budget_cut_hessian": "the time budget was spent before the Hessian",
    "budget_cut_siblings": "the time budget was spent before the siblings",
}
NUMBERED_FLAG_TEXT = {
    "budget_cut_samples_to": "time budget: measured on {} training samples only, with larger errors",
    "budget_cut_hessian_samples_to": "time budget: the Hessian was measured on at most {} samples",
    "batch_size_halved_to": "memory ran out: {} samples at a time were measured; last digits may differ",
}


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """What `mdtree diagnose` prints."""
    parts = [_headline(diagnosis), _ranking(diagnosis.ranking), _path(diagnosis), *_record_parts(diagnosis.record)]
    if diagnosis.flags or diagnosis.record.flags or diagnosis.settle:
        parts.append(_notes(diagnosis))
    parts.append(_footer(diagnosis.record))
    return "\n\n".join(parts)


def record_text(record: Record) -> str:
    """What `mdtree measure` prints."""
    head = f"{record.checkpoint.get('path', 'record')}  ({record.evidence.replace('_', ', ')})"
    parts = [head, *_record_parts(record)]
    if record.flags:
        parts.append("\n".join(["Notes", *(f"  {flag_text(flag)}" for flag in record.flags)]))
    return "\n\n".join([*parts, _footer(record)])


def _record_parts(record: Record) -> list[str]:
    """What was opened, where the record says so, and what was measured."""
    return [part for part in (opened_text(record), _measured(record)) if part]


def flag_text(flag: str) -> str:
    """A flag in words; numbers at the end of a flag's name belong to the sentence."""
    name, _, number = flag.rpartition("_")
    if number.isdigit() and name in NUMBERED_FLAG_TEXT:
        return NUMBERED_FLAG_TEXT[name].format(f"{int(number):,}")
    return FLAG_TEXT.get(flag, _words(flag))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _headline(diagnosis: Diagnosis) -> str:
    reason = f", {_words(diagnosis.reason)}" if diagnosis.reason else ""
    lines = [
        str(diagnosis.record.checkpoint.get("path", "record")),
        "",
        f"  Verdict   {_words(diagnosis.verdict)}  ({diagnosis.confidence:.0%}{reason})",
    ]
    best = diagnosis.ranking[0]
    if diagnosis.verdict == "undetermined":
        lines.append(f"  Leading   {_words(best.failure)}, not by enough to say so")
    elif best.advice:
        lines.append(f"  Try       {best.advice.text}")
        lines.append(f"  Expect    {_gain(best)} points of test accuracy")
    else:
        lines.append("  Try       nothing: no single change is known to gain a point")
    distance = diagnosis.distance_from_zoo
    if "nearest" in distance:
        mark = "out of the zoo, whose limit is" if distance["outside"] else "the zoo's limit is"
        lines.append(
            f"  Like      {distance['nearest']}, at distance {distance['overall']:.1f} ({mark} {distance['limit']:.1f})"
        )
    return "\n".join(lines)


def _gain(candidate: Candidate) -> str:
    if candidate.expected_gain_points is None:
        return "?"
    return f"{candidate.expected_gain_points:+.1f} ± {candidate.expected_gain_standard_error or 0.0:.1f}"


def _ranking(ranking: Iterable[Candidate]) -> str:
    rows = [("cause", "probability", "room", "expected gain", "change")]
    for c in ranking:
        rows.append(
            (
                _words(c.failure),
                f"{c.probability:.0%}",
                "" if c.room_points is None else f"{c.room_points:.1f}",
                _gain(c) if c.advice else "",
                c.advice.text if c.advice else "",
            )
        )
    return "Ranking (room and gain in points of test accuracy)\n" + table(rows, right=(1, 2, 3))


def _path(diagnosis: Diagnosis) -> str:
    about = diagnosis.diagnoser
    head = (
        f"Path (evidence: {_words(about['evidence'])}; diagnoser {about['name']}, "
        f"{about['zoo']['rows']} networks in {about['zoo']['cells']} cells)"
    )
    if not any(step.question for step in diagnosis.path):
        return head + "\n" + table([step_words(step) for step in diagnosis.path], right=())
    # a row without cells stands where another question begins
    rows: list[tuple[str, str, str]] = []
    marks: dict[int, str] = {}
    for step in diagnosis.path:
        words = QUESTION_TEXT.get(step.question, step.question).replace("\n", " ")
        if words not in marks.values():
            marks[len(rows)] = words
        rows.append(step_words(step))
    lines = table(rows, right=()).splitlines()
    for number in sorted(marks, reverse=True):
        lines[number] = f"  {marks[number]}\n  {lines[number]}"
    first = set(marks)
    lines = [line if number in first else f"  {line}" for number, line in enumerate(lines)]
    return head + "\n" + "\n".join(lines)


def step_words(step: Step) -> tuple[str, str, str]:
    """One split of the path: metric and value, comparison, share of the zoo that went the same way."""
    threshold = format_threshold(step.threshold)
    if step.value is None:
        return f"{step.feature} not measured", f"? {threshold}", "both branches, as the zoo divides"
    error = f" ± {step.standard_error:.2g}" if step.standard_error else ""
    relation = "≤" if step.side == "left" else ">"
    note = "; within its error of the threshold" if step.straddles else ""
    return (
        f"{step.feature} = {step.value:.6g}{error}",
        f"{relation} {threshold}",
        f"as {step.share_of_zoo:.0%} of the zoo here{note}",
    )


def _measured(record: Record) -> str:
    rows = []
    for name, metric in record.metrics.items():
        error = f"± {metric.standard_error:.2g}" if metric.standard_error else ""
        rows.append((name, f"{metric.value:.6g}", error))
    text = "Measured\n" + table(rows, right=(1,))
    if record.not_measured:
        text += "\nNot measured\n" + "\n".join(_grouped_reasons(record))
    return text


def _grouped_reasons(record: Record) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for item in record.not_measured:
        by_reason.setdefault(item.reason, []).append(item.metric)
    return [f"  {', '.join(names)}: {reason}" for reason, names in by_reason.items()]


def _notes(diagnosis: Diagnosis) -> str:
    lines = ["Notes"]
    for flag in (*diagnosis.record.flags, *diagnosis.flags):
        if flag.startswith("straddles:"):
            lines.append(f"  {flag.split(':')[1]} lies within its error of a threshold")
        elif flag.startswith("not_told:"):
            cause = _words(flag.split(":")[1])
            lines.append(f"  whether {cause} is not known to this diagnoser: its zoo has no such axis")
        elif flag.startswith("set_of:"):
            count = flag.split(":")[1]
            lines.append(
                f"  one of {count} checkpoints of one task: its place among them counts beside its own numbers"
            )
        elif flag.startswith("decided_by_set:"):
            lines.append(f"  {_words(flag.split(':')[1])} was answered by its place in the set")
        else:
            lines.append(f"  {flag_text(flag)}")
    lines += [f"  to settle it: {text}" for text in diagnosis.settle]
    return "\n".join(lines)


def _footer(record: Record) -> str:
    seconds, gradients = record.cost.get("seconds", 0.0), record.cost.get("sample_gradients", 0.0)
    return (
        f"Measured in {seconds:.1f} s, {gradients:,.0f} sample gradients; protocol {record.protocol.get('digest', '?')}"
    )


def scores_text(result: Mapping[str, Any]) -> str:
    """What `mdtree evaluate` prints: per question and evidence the scores, with every baseline beside them."""
    parts = [str(result["rows"])]
    for question, by_evidence in result["questions"].items():
        rows: list[tuple[str, ...]] = [("method", "balanced", "accuracy", "gain captured", "regret", "n", "ambiguous")]
        rows += [(f"tree, {_words(evidence)}", *_score_cells(scores)) for evidence, scores in by_evidence.items()]
        # the baselines see the same rows in every evidence set
        baselines = next(iter(by_evidence.values()))["baselines"]
        rows += [(name, *_score_cells(scores)) for name, scores in baselines.items()]
        parts.append(f"{_words(question)}\n" + table(rows, right=range(1, 7)))
    return "\n\n".join(parts)


def _score_cells(scores: Mapping[str, Any]) -> tuple[str, ...]:
    def share(name: str) -> str:
        value = scores.get(name)
        return "" if value is None else f"{value:.1%}"

    regret = scores.get("regret_points")
    return (
        share("balanced_accuracy"),
        share("accuracy"),
        share("gain_captured"),
        "" if regret is None else f"{regret:.2f}",
        str(scores["n"]),
        str(scores["n_ambiguous"]),
    )


def table(rows: Sequence[Sequence[str]], right: Iterable[int]) -> str:
    """Rows as columns of even width, indented by two."""
    aligned_right = set(right)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    lines = []
    for row in rows:
        cells = [
            cell.rjust(w) if i in aligned_right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join(lines)
