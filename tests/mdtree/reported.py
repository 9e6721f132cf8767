"""Records and diagnoses for tests of reports: everything that can stand in one, with any text in every field."""

from __future__ import annotations

import math
from dataclasses import replace

from mdtree.diagnoser import default_diagnoser, diagnose_record
from mdtree.diagnosis import Diagnosis
from mdtree.record import Metric, NotMeasured, Record

JUDGE = default_diagnoser()

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>' onmouseover='alert(1)",
    "</script></style></pre></details></title>--> ]]>",
    "&lt;b&gt; &amp; &#60;",
    "{{ 7 * 7 }}{% raw %}{# no #}",
    "\u202egpj.exe\u2066\u200b\u00ad",
    "\x1b[31mred\x1b[0m\x07\x00\x7f\x9b",
    "first\nsecond\r\n\n| a | b |\n|---|---|\n# heading\n</details>\n",
    "`code` ``|`` \\| \\` |",
    "tick ` and `` tock",
    "a|b",
    "[link](javascript:alert(1)) ![picture](https://example.org/x.png) <https://example.org>",
    "https://example.org www.example.org",
    "@everyone #1 GH-1 ~~gone~~ **bold** __bold__ *it* _it_ $x$ $$y$$ :tada: ==mark==",
    "\ud800 lone \udfff",
    "- item\n1. item\n> quote\n\n    code\n***\n",
    "",
    " ",
    "x" * 5000,
    "שלום עולם",
    "ﷺ𝕏Z̸̡͝a̵l̴g̷o",
)
"""Names that would be markup, terminal control, another line or another direction if anybody believed them."""


def full_record(text: str = "word", **values: float) -> Record:
    """A record with all that one can hold, `text` in every field that a file can fill.

    Metrics lie in the middle of the zoo's ranges but for those given.
    """
    metrics = {
        name: Metric(values.get(name, low + 0.5 * (high - low)), 0.02 * (high - low), 450)
        for name, (low, high) in JUDGE.ranges.items()
    }
    named = ("path", "sha256", "framework", "layout", "weights_from", "model", "model_from", "data", "data_from",
             "data_set", "normalisation", "fine_tuned_from")  # fmt: skip
    listed = ("weights_there", "siblings", "notes", "file_notes")
    return Record(
        checkpoint={
            **dict.fromkeys(named, text),
            **{name: [text, "other"] for name in listed},
            "class_counts": [40, 50],
            "recipe_from": {"learning_rate": text, "optimizer": text, text: text},
        },
        recipe={"learning_rate": 0.1, "batch_size": 16, "width": 8, "optimizer": text, f"setting {text}": [text]},
        protocol={"digest": text, "seed": 0, "trace": text},
        execution={"device": text, "threads": 1},
        metrics=metrics,
        not_measured=(NotMeasured("cka_mixup", text), NotMeasured("linear_barrier_percent", "no sibling")),
        series=series(),
        layers=({"name": text, "shape": [4, 8], "parameters": 32, "weight_norm": 1.5, "gradient_norm": 0.25},),
        flags=("trace_negative", text),
        cost={"seconds": 1.25, "sample_gradients": 1234.0},
    )


def series() -> dict[str, object]:
    """A spectrum, and a curve with a barrier of 20 points."""
    places = [-1 + 0.1 * i for i in range(71)]
    t = [i / 8 for i in range(9)]
    return {
        "top_eigenvalues": {"eigenvalues": [5.0, 3.0, 1.0]},
        "spectral_density": {
            "eigenvalues": places,
            "density": [math.exp(-(place**2)) for place in places],
            "width": 0.1,
            "ritz_values": [[-0.5, 1.0, 5.0]],
            "ritz_weights": [[0.1, 0.8, 0.1]],
        },
        "curve": {"t": t, "error_percent": [10 + 80 * x * (1 - x) for x in t]},
        "linear_path": {"t": t, "error_percent": [10 + 200 * x * (1 - x) for x in t]},
    }


def told(text: str = "word", **values: float) -> Diagnosis:
    """The embedded diagnoser's diagnosis of `full_record`, with `text` where a diagnoser's file could put it too."""
    diagnosis = diagnose_record(JUDGE, full_record(text, **values))
    return replace(
        diagnosis,
        flags=(*diagnosis.flags, text, f"straddles:{text}", f"not_told:{text}"),
        settle=(text,),
        distance_from_zoo={**diagnosis.distance_from_zoo, "nearest": text},
        diagnoser={**diagnosis.diagnoser, "name": text, "zoo": {**diagnosis.diagnoser["zoo"], "families": [text]}},
    )
