"""Every report of a diagnosis names the same leaf, for real networks; thresholds are compared as they are.

The rows of the sample tables are diagnosed as if each had just been measured. Where the way through the trees must
end is told by the plain recursion below, which shares nothing with the walk it checks but the trees. By default a
seeded sample of the rows is asked, all of them with MDTREE_ALL_ROWS=1 (two minutes).
"""

import html
import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mdtree.composition import ANSWERS, QUESTION_TEXT, question_of
from mdtree.diagnoser import default_diagnoser, diagnose_record
from mdtree.html_report import html_report
from mdtree.markdown_report import markdown_report
from mdtree.nodes import Leaf, leaves, splits
from mdtree.plots import decision_path_data
from mdtree.record import Metric, Record
from mdtree.terminal_report import diagnosis_text
from mdtree.zoo import EVIDENCE, FAILURES, evidence_metrics, read_zoo

ROOT = Path(__file__).parents[2]
SAMPLE = 600
EVERY = bool(os.environ.get("MDTREE_ALL_ROWS"))

# no verdict hangs on the distance from the zoo, which would take most of the time
DIAGNOSER = replace(default_diagnoser(), reference=None)
POSITIVE = {"healthy": "healthy", "model_size": "model_too_small", "data": "too_little_data",
            "temperature": "temperature_too_high", "model_or_data": "model_too_small"}  # fmt: skip


def ends(node, values, weight=1.0):
    """Label -> weight of the leaves that plain comparisons lead to."""
    if isinstance(node, Leaf):
        return {node.label: weight}
    if node.feature in values:
        shares = [(node.left if values[node.feature] <= node.threshold else node.right, 1.0)]
    else:
        shares = [(node.left, node.share_left), (node.right, 1.0 - node.share_left)]
    found = {}
    for child, share in shares:
        for label, reached in ends(child, values, weight * share).items() if share else ():
            found[label] = found.get(label, 0.0) + reached
    return found


def answer(question, evidence, values):
    """Yes, no, or None where a metric is missing and both are said."""
    yes = round(ends(DIAGNOSER.tree(question, evidence).tree, values).get(POSITIVE[question], 0.0), 9)
    return {0.0: False, 1.0: True}.get(yes)


def composed_ends(node, evidence, values, weight=1.0):
    """The same through a verdict that asks questions, each of which has a tree."""
    if isinstance(node, Leaf):
        return {node.label: weight}
    question = question_of(node.feature)
    yes = ends(DIAGNOSER.tree(question, evidence).tree, values).get(POSITIVE[question], 0.0)
    yes = round(yes, 9)
    found = {}
    for child, share in ((node.left, 1.0 - yes), (node.right, yes)):
        if share:
            for label, reached in composed_ends(child, evidence, values, weight * share).items():
                found[label] = found.get(label, 0.0) + reached
    return found


def record_of(values):
    return Record({"path": "row.pt"}, {}, {}, {}, {name: Metric(value, 0.0, 1) for name, value in values.items()})


def rows_of(tables, count):
    """(evidence, metric -> value) of rows in a seeded order, the evidence sets in turn."""
    frame = pd.concat([read_zoo(file) for file in tables], ignore_index=True)
    assert len(frame) > 13_000
    order = np.random.default_rng(0).permutation(len(frame))[:count]
    for place, number in enumerate(order.tolist()):
        evidence = EVIDENCE[place % len(EVIDENCE)]
        names = [name for name in evidence_metrics(evidence) if name in frame]
        line = frame.loc[number, names]
        yield evidence, {name: float(value) for name, value in line.items() if not math.isnan(value)}


@pytest.fixture(scope="module")
def rows():
    tables = sorted((ROOT / "zoo_samples").glob("*.csv"))
    return list(rows_of(tables, None if EVERY else SAMPLE))


LINE = re.compile(
    r"^  [├│] (?P<metric>.+?)  +(?P<value>not measured|\S+)(?: ± \S+)?  +(?P<sign>[≤>?]) (?P<threshold>\S+) "
)
QUESTIONS = {text.replace("\n", " "): question for question, text in QUESTION_TEXT.items()}


def read_text(text):
    """The path, the answers, the leaf and the verdict out of the printed report."""
    steps, answers, question = [], {}, ""
    part = text[text.index("\nPath  ") + 1 :].split("\n\n")[0].splitlines()
    for line in part[1:]:
        asked, _, said = line[4:].partition("?")
        if line.startswith("  ├ ") and f"{asked}?" in QUESTIONS:
            question = QUESTIONS[f"{asked}?"]
            answers[question] = {" No.": False, " Yes.": True}.get(said)
        elif line.startswith("  └ "):
            label = line[6:].partition(";")[0]
        elif found := LINE.match(line):
            steps.append((question, found["value"], found["sign"], float(found["threshold"])))
    verdict = re.search(r"^  Verdict  . (.+?)  \d+%", text, re.MULTILINE)[1]
    return steps, answers, label, verdict.replace(" ", "_")


SIGNS = {"left": "≤", "right": ">", "both": "?"}
COMPARED = {
    "markdown": re.compile(r"^\| `\w+` \| (not measured|\S+)(?: ± \S+)? \| ([≤>?]) (\S+) \|", re.MULTILINE),
    "html": re.compile(
        r'<span class="compare">(?:<strong>(\S+)</strong>[^<]*<span class="against">'
        r'<span class="relation">([≤>])</span> (\S+)</span>|'
        r'<span class="absent">not measured</span>, threshold (\S+))</span>'
    ),
}
ANSWERED = {
    "markdown": re.compile(r"^\*\*(.+?)\*\* → (yes|no|partly)", re.MULTILINE),
    "html": re.compile(r'<p class="question">([^<]+) <span class="reply">(yes|no|partly)'),
}
VERDICT = {
    "markdown": re.compile(r"^## (.+?) \(\d+%"),
    "html": re.compile(r'<p class="answer">.*?<strong>(.+?)</strong>', re.DOTALL),
}


def read_page(kind, page):
    """The comparisons, the answers and the verdict out of a report in Markdown or HTML."""
    page = html.unescape(page)
    steps = []
    for value, *rest in COMPARED[kind].findall(page):
        sign, threshold = rest[0] or "?", rest[1] or rest[-1]
        steps.append(("" if value == "not measured" else value, sign, float(threshold)))
    answers = {QUESTIONS[asked]: {"no": False, "yes": True}.get(said) for asked, said in ANSWERED[kind].findall(page)}
    return steps, answers, VERDICT[kind].search(page)[1].replace(" ", "_")


def test_every_report_names_the_leaf_that_comparisons_lead_to(rows):
    seen = set()
    for evidence, values in rows:
        diagnosis = diagnose_record(DIAGNOSER, record_of(values), evidence)
        expected = composed_ends(DIAGNOSER.tree("verdict", evidence).tree, evidence, values)
        said = json.loads(diagnosis.to_json())
        assert {end["label"]: end["weight"] for end in said["leaves"]} == pytest.approx(expected)
        path = [(SIGNS[step["side"]], step["threshold"]) for step in said["path"]]
        answered = {step["question"]: answer(step["question"], evidence, values) for step in said["path"]}
        assert {one["question"]: one["answer"] for one in said["answers"]} == answered

        steps, answers, label, verdict = read_text(diagnosis_text(diagnosis))
        assert [question for question, *_ in steps] == [step["question"] for step in said["path"]]
        assert (answers, verdict) == (answered, said["verdict"])
        if len(expected) == 1:
            assert label.replace(" ", "_") in expected
            seen.add((evidence, label))
        pages = {
            "markdown": markdown_report([diagnosis], DIAGNOSER),
            "html": html_report([diagnosis], DIAGNOSER, pictures=False),
        }
        read = {kind: read_page(kind, page) for kind, page in pages.items()}
        read["text"] = [step[1:] for step in steps], answered, verdict
        for kind, (printed, answers, verdict) in read.items():
            assert [(sign, threshold) for _, sign, threshold in printed] == path, kind
            assert (answers, verdict) == (answered, said["verdict"]), kind
            for (shown, sign, threshold), step in zip(printed, said["path"], strict=True):
                if sign != "?":
                    assert (float(shown) <= threshold) == (sign == "≤") == (step["value"] <= step["threshold"]), kind

        drawn = [node for node in decision_path_data(diagnosis, DIAGNOSER) if node.taken and node.label]
        assert {node.label for node in drawn} == set(expected)
    assert len(seen) == len(EVIDENCE) * len(FAILURES), "every evidence set comes to every leaf"


def on_and_above(evidence):
    """Every split of the trees an evidence set asks, with a value on its threshold and the next one above."""
    questions = [question_of(split.feature) for split in splits(DIAGNOSER.tree("verdict", evidence).tree)]
    for question in dict.fromkeys(questions):
        for split in splits(DIAGNOSER.tree(question, evidence).tree):
            yield question, split, split.threshold, "left"
            yield question, split, math.nextafter(split.threshold, math.inf), "right"


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_on_a_threshold_goes_left_and_the_next_number_right(rows, evidence):
    """A threshold rounded before comparing, or for print, once sent such values to the other side."""
    like = [values for own, values in rows if own == evidence][:60]
    asked = 0
    for question, split, value, side in on_and_above(evidence):
        for values in like:
            diagnosis = diagnose_record(DIAGNOSER, record_of({**values, split.feature: value}), evidence)
            asks = (question, split.feature, split.threshold)
            here = [s for s in diagnosis.path if (s.question, s.feature, s.threshold) == asks]
            if not here:
                continue
            assert {s.side for s in here} == {side}
            steps, *_ = read_text(diagnosis_text(diagnosis))
            shown = [
                (float(v), sign) for q, v, sign, threshold in steps if q == question and threshold == split.threshold
            ]
            assert shown
            for number, sign in shown:
                assert sign == ("≤" if side == "left" else ">")
                assert (number <= split.threshold) == (side == "left")
            asked += 1
            break
    assert asked > 20


def test_the_composed_verdict_is_what_is_tested():
    for evidence in EVIDENCE:
        tree = DIAGNOSER.tree("verdict", evidence).tree
        assert {split.feature for split in splits(tree)} <= set(ANSWERS)
        assert {leaf.label for leaf in leaves(tree)} == set(FAILURES)
