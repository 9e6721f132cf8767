"""Learning curves: what each point is fitted on."""

import pytest

from mdtree.benchmark_methods import METHODS
from mdtree.errors import InputError
from mdtree.learning_curves import AXES, PAIR_COUNTS, learning_curves
from mdtree.modeldiagnosis import read_public_table


def test_points_cover_the_axes_and_are_shares_of_right_answers(mdtree_data, monkeypatch):
    clean, noisy = (
        read_public_table(mdtree_data / "modeldiagnosis" / f"dataframe_{half}_public.csv")
        for half in ("normal", "noise")
    )
    seen = []

    def watched(question, training, test):
        seen.append(training)
        return METHODS["majority"](question, training, test)

    monkeypatch.setitem(METHODS, "watched", watched)
    points = learning_curves(clean, noisy, ["watched"])
    assert {axis: sum(p.axis == axis for p in points) for axis in AXES} == {
        "configurations": len(PAIR_COUNTS), "data limit": 10, "width limit": 13,
    }  # fmt: skip
    assert all(0.3 < p.accuracy < 0.7 for p in points)
    assert points[0].x == pytest.approx(12, abs=1)
    assert points[len(PAIR_COUNTS) - 1].x == 1560
    data_limits = [part for part, p in zip(seen[-23:-13], points[-23:-13], strict=True) if p.axis == "data limit"]
    assert [part["train_size"].max() for part in data_limits] == [5000 * k for k in range(1, 11)]
    assert [part["width"].max() for part in seen[-13:]] == [p.x for p in points[-13:]]


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match="magic"):
        learning_curves(None, None, ["magic"])
