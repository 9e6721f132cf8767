"""Words and numbers of a diagnosis that all its reports share. Text out of files is made visible here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mdtree.cut_points import format_threshold
from mdtree.diagnoser import MARGIN
from mdtree.diagnosis import Candidate, Diagnosis
from mdtree.flag_text import flag_text
from mdtree.nodes import Step
from mdtree.record import Record

LONGEST = 240
"""Characters of a name or a sentence out of a file that are shown; of longer ones the middle is left out."""

NO_CHANGE = "nothing: no single change is known to gain a point"
NO_NAME = "a network without a file"


def visible(value: object, longest: int = LONGEST) -> str:
    """Text of unknown origin on one line: what cannot be seen (controls, overrides of direction) stands as its escape.

    Nothing is escaped for a mark-up language here.
    """
    text = str(value)
    if len(text) > longest:
        half = (longest - 1) // 2
        text = f"{text[:half]}…{text[-half:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def words(name: str) -> str:
    """`model_too_small` as "model too small"."""
    return name.replace("_", " ")


def name_of(record: Record) -> str:
    """The last part of the checkpoint's path."""
    path = str(record.checkpoint.get("path") or NO_NAME)
    return visible(path.replace("\\", "/").rstrip("/").rpartition("/")[2] or path, longest=120)


def beside(value: float, threshold: float, digits: int = 6) -> str:
    """A value with six digits, or as many more as it takes to read on its own side of the threshold."""
    for count in range(digits, 18):
        text = f"{value:.{count}g}"
        if (float(text) <= threshold) == (value <= threshold):
            return text
    return repr(float(value))


def error_text(error: float | None) -> str:
    """`± 0.012`; empty where a number is exact or nothing is known of its error."""
    return f"± {error:.2g}" if error else ""


def compared(step: Step) -> tuple[str, str, str, str]:
    """Value, its error, the relation found and the threshold, as they are shown; "not measured" and "?" without one."""
    threshold = format_threshold(step.threshold)
    if step.value is None:
        return "not measured", "", "?", threshold
    relation = "≤" if step.side == "left" else ">"
    return beside(step.value, step.threshold), error_text(step.standard_error), relation, threshold


def share_text(step: Step) -> str:
    """Where the zoo's networks went at this split."""
    if step.side == "both":
        return "both branches, as the zoo divides"
    return f"as {step.share_of_zoo:.0%} of the zoo here"


def gain_text(candidate: Candidate) -> str:
    """`+4.2 ± 0.5`, in points of test accuracy."""
    if candidate.expected_gain_points is None:
        return "?"
    return f"{candidate.expected_gain_points:+.1f} ± {candidate.expected_gain_standard_error or 0.0:.1f}"


def what_to_try(diagnosis: Diagnosis) -> str:
    """The change that is advised; of an undetermined diagnosis what it leans to."""
    best = diagnosis.ranking[0]
    if diagnosis.verdict == "undetermined":
        lead = best.probability - max((c.probability for c in diagnosis.ranking[1:]), default=0.0)
        why = "not by enough to say so" if lead < MARGIN else "but see the notes"
        return f"nothing yet: {words(best.failure)} leads, {why}"
    gain = best.expected_gain_points
    if gain is not None and gain < 0:
        return f"nothing yet: {words(best.failure)}, but its change gained nothing in networks like this"
    return best.advice.text if best.advice else NO_CHANGE


def like_text(diagnosis: Diagnosis) -> str:
    """Which networks of the zoo it is most like and how far it is from them; empty where the diagnoser cannot tell."""
    distance = diagnosis.distance_from_zoo
    if "nearest" not in distance:
        return ""
    nearest = visible(distance["nearest"], longest=80)
    told = "out of the zoo, whose limit is" if distance["outside"] else "the zoo's limit is"
    overall, limit = distance["overall"], distance["limit"]
    # as many decimals as tell the one from the other
    both = ((f"{overall:.{decimals}f}", f"{limit:.{decimals}f}") for decimals in range(2, 17))
    here, there = next((pair for pair in both if pair[0] != pair[1] or overall == limit), (overall, limit))
    return f"{nearest}, at distance {here} ({told} {there})"


def notes(diagnosis: Diagnosis) -> list[str]:
    """Flags in words, each once: a record out of a saved diagnosis has the diagnosis's flags among its own."""
    return [note_text(flag) for flag in dict.fromkeys(map(str, (*diagnosis.record.flags, *diagnosis.flags)))]


def note_text(flag: str) -> str:
    """One flag as a sentence."""
    kind, _, about = flag.partition(":")
    sentences = {
        "straddles": f"{about} lies within its error of a threshold",
        "not_told": f"whether {words(about)} is not known to this diagnoser: its zoo has no such axis",
        "set_of": f"one of {about} checkpoints of one task: its place among them counts beside its own numbers",
        "decided_by_set": f"{words(about)} was answered by its place in the set",
    }
    return visible(sentences[kind] if about and kind in sentences else flag_text(flag))


def reasons(record: Record) -> list[tuple[str, list[str]]]:
    """Why what was not measured was not: each reason once, with its metrics."""
    grouped: dict[str, list[str]] = {}
    for item in record.not_measured:
        grouped.setdefault(visible(item.reason), []).append(visible(item.metric))
    return list(grouped.items())


def cost_text(record: Record) -> str:
    """`0.6 s, 51,813 sample gradients`."""
    seconds, gradients = (record.cost.get(name, 0.0) for name in ("seconds", "sample_gradients"))
    kept = "; kept from an earlier run" if record.cost.get("cached") else ""
    return f"{number_text(seconds, '.1f')} s, {number_text(gradients, ',.0f')} sample gradients{kept}"


def number_text(value: object, style: str) -> str:
    """A number in a style of `format`; what is no number, or too large for one, as it stands."""
    try:
        return format(value, style) if isinstance(value, int | float) else visible(value, longest=30)
    except OverflowError:
        return visible(value, longest=30)


def zoo_text(diagnosis: Diagnosis) -> str:
    """What the diagnoser was fitted on."""
    zoo = diagnosis.diagnoser["zoo"]
    families = zoo.get("families") or ()
    return f"{zoo['rows']:,} networks in {zoo['cells']:,} cells of {len(families)} families"


def value_text(value: Any) -> str:
    """A setting of unknown type: numbers short, all else as it stands."""
    if isinstance(value, float):
        return number_text(value, "g")
    if isinstance(value, Mapping):
        return visible(", ".join(f"{key}: {value_text(one)}" for key, one in value.items()))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return visible(", ".join(value_text(one) for one in value))
    return visible(value)


def listed(names: Iterable[str]) -> str:
    """`a, b and c`."""
    *first, last = [*names] or [""]
    return f"{', '.join(first)} and {last}" if first else last
