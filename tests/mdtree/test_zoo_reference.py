"""How far a checkpoint is from a zoo, when it is marked, and which of several references it resembles."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mdtree.errors import InputError
from mdtree.reference_points import Point, fit_axis, make_view
from mdtree.resemblance import public_reference, resembles, summarise_public_table
from mdtree.zoo import METRICS
from mdtree.zoo_reference import ZooReference, fit_reference

ALONE = ("train_error_over_chance", "hessian_trace_per_parameter", "log_weight_growth")
WITH_PAIR = (*ALONE, "cka", "disagreement_percent")


def two_families(cells: int = 60, seed: int = 0) -> pd.DataFrame:
    """`tame` and `wild`: in both the trace follows the error; of the wild the trace is a thousand times larger."""
    generator = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for family, scale in (("tame", 1e-4), ("wild", 1e-1)):
        for cell in range(cells):
            error = generator.uniform()
            for number in range(3):
                noise = 0.02 * generator.standard_normal(3)
                rows.append(
                    {
                        "family": family,
                        "cell": f"c{cell}",
                        "seed": number,
                        "train_error_over_chance": error + noise[0],
                        "hessian_trace_per_parameter": scale * np.exp(2 * error + noise[1]),
                        "log_weight_growth": 1 - error + noise[2],
                        "cka": 1 - 0.5 * error + 0.02 * generator.standard_normal(),
                        "disagreement_percent": 60 * error + generator.standard_normal(),
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def reference() -> ZooReference:
    return fit_reference(two_families(), WITH_PAIR)


def network(**changed: float) -> dict[str, float]:
    """One that the tame family holds, half way."""
    tame = {
        "train_error_over_chance": 0.5,
        "hessian_trace_per_parameter": 1e-4 * np.e,
        "log_weight_growth": 0.5,
        "cka": 0.75,
        "disagreement_percent": 30.0,
    }
    return {**tame, **changed}


def test_a_network_like_the_zoos_is_not_marked_and_told_its_family(reference: ZooReference) -> None:
    found = reference.distance(network())
    assert not found.outside
    assert found.overall < 1.0 < found.limit < 2.0
    assert found.nearest == "tame"
    assert set(found.per_metric.values()) == {0.0}
    assert reference.distance(network(hessian_trace_per_parameter=0.1 * np.e)).nearest == "wild"


def test_out_of_the_range_of_one_metric_is_told_by_that_metric_in_spreads(reference: ZooReference) -> None:
    axis = next(axis for axis in reference.axes if axis.metric == "log_weight_growth")
    found = reference.distance(network(log_weight_growth=axis.centre + axis.spread * (axis.high + 2.0)))
    assert found.outside
    assert found.per_metric["log_weight_growth"] == pytest.approx(2.0)
    assert sum(found.per_metric.values()) == pytest.approx(2.0)


def test_inside_all_ranges_a_combination_that_the_zoo_has_not_is_marked(reference: ZooReference) -> None:
    # much error with weights that grew much: the zoo has both, not together
    found = reference.distance(network(train_error_over_chance=0.9, log_weight_growth=0.9))
    assert set(found.per_metric.values()) == {0.0}
    assert found.outside
    assert found.overall > 2 * found.limit


def test_what_sets_it_apart_is_its_difference_from_the_nearest_networks(reference: ZooReference) -> None:
    found = reference.distance(network(cka=0.2))
    assert max(found.from_nearest, key=lambda name: abs(found.from_nearest[name])) == "cka"
    assert found.from_nearest["cka"] < -1.5


@pytest.mark.parametrize("metrics", [WITH_PAIR, ALONE, ALONE[:1], WITH_PAIR[3:]], ids=len)
def test_under_any_evidence_few_cells_of_known_families_are_marked(metrics: tuple[str, ...]) -> None:
    held_out = two_families(cells=400, seed=1)[list(metrics)]
    marked = fit_reference(two_families(cells=120), WITH_PAIR).distances(held_out)["outside"]
    assert 0.0 < marked.mean() < 0.06


def test_a_cell_does_not_vouch_for_itself() -> None:
    """Seeds of a cell lie close together; the limit is what a network of another cell needs."""
    one_of_each = fit_reference(two_families(), WITH_PAIR, points_per_family=60)
    all_of_each = fit_reference(two_families(), WITH_PAIR, points_per_family=180)
    assert len({point.cell for point in one_of_each.points}) == len(one_of_each.points) == 120
    assert len({point.cell for point in all_of_each.points}) == 120
    assert len(all_of_each.points) == 360
    far = network(log_weight_growth=0.9)
    limits = [r.distance(far).limit for r in (one_of_each, all_of_each)]
    assert limits[1] == pytest.approx(limits[0], rel=0.25)


def test_missing_and_unknown_metrics_are_left_out(reference: ZooReference) -> None:
    alone = {name: network()[name] for name in ALONE}
    expected = reference.distance(alone)
    assert tuple(expected.per_metric) == ALONE
    assert reference.distance({**alone, "cka": float("nan"), "test_loss": 1e9}) == expected
    with pytest.raises(
        InputError, match="distances from the zoo are made of was measured; expected at least one of train_"
    ):
        reference.distance({"test_loss": 1.0})


def test_points_without_a_metric_are_no_neighbours_where_it_is_measured() -> None:
    rows = two_families()
    rows.loc[rows["family"] == "wild", "cka"] = np.nan
    reference = fit_reference(rows, WITH_PAIR)
    wild = network(hessian_trace_per_parameter=0.1 * np.e)
    assert reference.distance(wild).nearest == "tame"
    assert reference.distance(wild).outside
    del wild["cka"]
    assert reference.distance(wild).nearest == "wild"
    assert not reference.distance(wild).outside


def test_a_metric_that_most_points_lack_is_left_out_instead() -> None:
    rows = two_families()
    rows.loc[rows["family"] == "wild", "cka"] = np.nan
    rows.loc[rows.index[::2], "cka"] = np.nan
    found = fit_reference(rows, WITH_PAIR).distance(network())
    assert "cka" not in found.from_nearest
    assert "cka" in found.per_metric


def test_a_table_is_answered_as_its_rows_are(reference: ZooReference) -> None:
    rows = two_families(cells=4, seed=2)
    rows.loc[::3, "cka"] = np.nan
    table = reference.distances(rows)
    for index, line in rows.iterrows():
        alone = reference.distance({name: line[name] for name in WITH_PAIR})
        assert table.loc[index, "overall"] == pytest.approx(alone.overall, rel=1e-12)
        assert table.loc[index, ["limit", "outside", "nearest"]].tolist() == [alone.limit, alone.outside, alone.nearest]


def test_a_checkpoint_has_the_coordinates_of_a_row_to_the_bit(reference: ZooReference) -> None:
    rows = [row for _, row in two_families(cells=5, seed=3).drop(columns=["family", "cell", "seed"]).iterrows()]
    values = [dict(row) for row in rows]
    values += [{**values[0], "cka": float("nan")}, {**values[0], "cka": float("-inf"), "unknown": 1.0}, {"cka": 0.5}]
    for one in values:
        assert reference.coordinates_of(one).tobytes() == reference.coordinates(pd.DataFrame([one])).tobytes()


def test_references_are_equal_by_all_they_hold_and_hashed_by_less(reference: ZooReference) -> None:
    again = ZooReference.from_dict(reference.to_dict())
    assert again == ZooReference.from_dict(reference.to_dict())
    assert hash(again) == hash(ZooReference.from_dict(reference.to_dict()))
    assert again != dataclasses.replace(again, points=again.points[1:])


def test_a_json_file_keeps_every_answer(reference: ZooReference) -> None:
    again = ZooReference.from_dict(json.loads(json.dumps(reference.to_dict(), allow_nan=False)))
    assert again == reference
    assert again.distance(network(cka=0.3)) == reference.distance(network(cka=0.3))


def test_the_order_of_rows_of_equal_seed_gives_equal_references() -> None:
    assert fit_reference(two_families(), WITH_PAIR) == fit_reference(two_families(), WITH_PAIR)
    assert fit_reference(two_families(), WITH_PAIR, points_per_family=9, seed=1) != fit_reference(
        two_families(), WITH_PAIR, points_per_family=9
    )


def test_metrics_that_the_zoo_never_measured_have_no_axis() -> None:
    rows = two_families().assign(cka=np.nan)
    assert fit_reference(rows, (*WITH_PAIR, "test_loss")).metrics == (*ALONE, "disagreement_percent")
    with pytest.raises(InputError, match="measured none of the metrics"):
        fit_reference(rows, ("cka", "test_loss"))
    with pytest.raises(InputError, match="of two cells or more"):
        fit_reference(two_families(cells=1).query("family == 'tame'"), ALONE)


def test_a_heavy_tail_is_measured_in_orders_of_magnitude_with_zeros_and_signs() -> None:
    axis = fit_axis("hessian_trace_per_parameter", np.geomspace(1e-6, 1e2, 401))
    steps = np.diff(axis.coordinate(np.array([1e-3, 1e-2, 1e-1, 1.0])))
    assert steps == pytest.approx(steps[0], rel=1e-3)
    zero, negative = axis.coordinate(np.array([0.0, -1e-3]))
    assert negative < zero < axis.coordinate(np.array([1e-5]))[0]
    assert axis.value(axis.coordinate(np.array([0.02]))) == pytest.approx([0.02])


def test_a_metric_that_never_varies_makes_any_other_value_far() -> None:
    rows = two_families().assign(cka=1.0)
    reference = fit_reference(rows, WITH_PAIR)
    assert not reference.distance(network(cka=1.0)).outside
    assert reference.distance(network(cka=0.9)).outside


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d.pop("axes"), "KeyError"),
        (lambda d: d.update(level=1.5), "a share between 0 and 1"),
        (lambda d: d.update(level=float("nan")), "nan where a finite number belongs"),
        (lambda d: d["axes"][0].update(spread=0.0), "spread above 0"),
        (lambda d: d["axes"][0].update(centre="1"), "'1' where a finite number belongs"),
        (lambda d: d["axes"][1].update(metric=d["axes"][0]["metric"]), "each once"),
        (lambda d: d["covariance"].pop(), "another size"),
        (lambda d: d["covariance"].__setitem__(0, "-1 0 0 0 0"), "a covariance that is none"),
        (lambda d: d["points"]["tame"].__setitem__(0, "3 1 2"), "tame with 2 coordinates"),
        (lambda d: d["points"]["tame"].__setitem__(0, "3 1 2 3 4 99999999"), "in reach"),
        (lambda d: d["points"]["tame"].__setitem__(0, "3 1 2 3 4 x"), "ValueError"),
        (lambda d: d["points"].clear(), "0 reference networks"),
        (lambda d: d.update(points=[1]), "AttributeError"),
    ],
)
def test_a_damaged_reference_is_refused(reference: ZooReference, damage: Any, words: str) -> None:
    values = copy.deepcopy(reference.to_dict())
    damage(values)
    with pytest.raises(InputError, match=f"the file.*{words}"):
        ZooReference.from_dict(values, "the file")


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_what_is_no_reference_is_refused(values: Any) -> None:
    with pytest.raises(InputError, match="the reference of the zoo is not valid"):
        ZooReference.from_dict(values)


def test_a_checkpoint_resembles_the_reference_it_is_near() -> None:
    rows = two_families()
    tame = fit_reference(rows[rows["family"] == "tame"], WITH_PAIR)
    wild = fit_reference(rows[rows["family"] == "wild"], ALONE)
    found = resembles(network(), {"tame": tame, "wild": wild})
    assert found.nearest == "tame"
    assert found.metrics == ALONE
    assert found.distances["tame"] < 1.5 < 5 < found.distances["wild"]
    assert resembles(network(hessian_trace_per_parameter=0.1 * np.e), {"tame": tame, "wild": wild}).nearest == "wild"


def test_resemblance_needs_something_to_compare() -> None:
    reference = fit_reference(two_families(), ALONE)
    with pytest.raises(InputError, match="no reference to compare with"):
        resembles(network(), {})
    with pytest.raises(InputError, match="no metric that all references have"):
        resembles({"cka": 1.0}, {"zoo": reference})


def test_a_public_table_is_kept_as_means_of_clusters() -> None:
    rows = two_families().assign(train_loss=1.0, test_loss=np.nan)
    summary = summarise_public_table(rows, fit_reference(rows, WITH_PAIR), centres=20)
    assert summary.metrics == WITH_PAIR
    assert len(summary.points) == 20
    assert {point.family for point in summary.points} == {"modeldiagnosis"}
    # means of their rows, no rows: the outermost values are drawn in
    errors, centres = rows["train_error_over_chance"], summary.table()["train_error_over_chance"]
    assert errors.min() + 0.01 < centres.min() < centres.max() < errors.max() - 0.01
    with pytest.raises(InputError, match="360 rows; expected at least 400"):
        summarise_public_table(rows, fit_reference(rows, WITH_PAIR), centres=400)


def test_the_summary_in_the_package_is_of_the_public_table() -> None:
    summary = public_reference()
    assert len(summary.points) == 80
    assert set(summary.metrics) < set(METRICS)
    assert {"train_error_over_chance", "hessian_trace_per_parameter", "cka"} < set(summary.metrics)
    # CIFAR-10 to a ResNet: outputs differ from seed to seed as in no zoo of digits
    assert 0.3 < summary.table()["cka"].median() < 0.6


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_spread_in_every_metric_is_a_distance_of_one_however_many_there_are(count: int) -> None:
    points = [Point("a", cell, (100 * cell,) * 5) for cell in (0, 1, 3)]
    view = make_view(points, np.eye(5), np.arange(5) < count)
    assert view.apart == pytest.approx([2.0, 1.5, 2.5])  # means of 1 and 3, of 1 and 2, of 3 and 2


def test_the_family_is_that_of_most_neighbours_and_among_equals_of_the_nearest() -> None:
    points = [Point(family, cell, (100 * cell,)) for cell, family in enumerate("abbcc")]
    view = make_view(points, np.eye(1), np.array([True]))
    overall, order = view.nearest(np.array([[0.1]]))
    assert order.tolist() == [[0, 1, 2, 3, 4]]
    assert view.family(order[0]) == "b"
    assert view.family(order[0][[3, 1, 4, 2]]) == "c"
    near = [0.1, 0.9, 1.9, 2.9, 3.9]
    apart = [2.5, 1.75, 1.5, 1.75, 2.5]  # from the other four
    assert overall == pytest.approx([np.mean([d / (a + 0.15) for d, a in zip(near, apart, strict=True)])])
