"""What is drawn is computed apart from the drawing, and the drawing shows it: read back from its artists."""

import math
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from test_diagnoser import record_of, small_diagnoser
from transfer_zoos import QUICK, family, together

from landscape.surface import LossSurface
from mdtree import plots
from mdtree.diagnoser import default_diagnoser, diagnose_record
from mdtree.errors import InputError
from mdtree.learning_curves import CurvePoint
from mdtree.plots.numbers import measured, with_error
from mdtree.plots.style import power_of_ten
from mdtree.record import Metric, Record
from mdtree.zoo import FAILURES
from mdtree.zoo_transfer import run_transfer

SERIES = {
    "curve": {"t": [0.0, 0.25, 0.5, 0.75, 1.0], "error_percent": [10.0, 12.0, 30.0, 14.0, 14.0]},
    "linear_path": {"t": [0.0, 0.5, 1.0], "error_percent": [10.0, 80.0, 14.0]},
    "spectral_density": {
        "eigenvalues": [-2.0, 0.0, 2.0, 4.0], "density": [0.1, 0.3, 0.0, 0.1], "width": 0.5,
        "ritz_values": [[-2.0, -0.4, 4.0], [-1.0, 0.0, 4.0]], "ritz_weights": [[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]],
    },
    "top_eigenvalues": {"eigenvalues": [1.5, 4.0]},
}  # fmt: skip
LAYERS = (
    {"name": "a.weight", "shape": [3, 4], "parameters": 12, "weight_norm": 6.0, "gradient_norm": 0.6},
    {"name": "$x$\n", "shape": [4], "parameters": 4, "weight_norm": 2.0, "gradient_norm": 0.0},
)


def with_series(**values):
    metrics = {"hessian_smallest_eigenvalue": Metric(-2.0, 0.1, 10)}
    return Record({"path": "a.pt"}, {}, {}, {}, metrics, series={**SERIES, **values}, layers=LAYERS)


@pytest.fixture
def diagnosis():
    return diagnose_record(
        small_diagnoser(),
        record_of(
            log_weight_growth=0.5,
            train_error_percent=20.0,
            train_error_over_chance=0.2,
            test_error_percent=25.0,
            errors={"train_error_percent": 1.0},
        ),
    )


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_the_drawn_path_is_the_walked_one(diagnosis):
    nodes = plots.decision_path_data(diagnosis, small_diagnoser())
    assert [n.taken for n in nodes] == [True, True, False, True, False]
    assert [n.label for n in nodes] == [None, None, "healthy", "temperature_too_low", "temperature_too_high"]
    assert [n.parent for n in nodes] == [None, 0, 1, 1, 0]
    assert [n.x for n in nodes] == [1.25, 0.5, 0.0, 1.0, 2.0]
    assert [n.y for n in nodes] == [0.0, -1.0, -2.0, -2.0, -1.0]
    assert [n.share for n in nodes] == [None, None, 0.6, 0.8, 0.9]
    assert nodes[0].text == "log weight\ngrowth\n≤ 1 ?\nhere 0.5"
    assert nodes[1].text == "train error\npercent\n≤ 10 ?\nhere 20 ± 1"
    assert nodes[3].text == "temperature too low\n80%"
    assert plots.path_questions(diagnosis) == ()


def test_a_gauge_places_value_error_and_threshold_in_the_range_of_the_zoo(diagnosis):
    error = plots.decision_path_data(diagnosis, small_diagnoser())[
        1
    ].gauge  # range 0 to 50, no reference: a plain scale
    assert (error.threshold, error.value) == pytest.approx((0.2, 0.4))
    assert (error.low, error.high) == pytest.approx(((20 - 1.96) / 50, (20 + 1.96) / 50))
    assert not error.beyond
    hot = diagnose_record(small_diagnoser(), record_of(log_weight_growth=7.0, train_error_percent=20.0))
    beyond = plots.decision_path_data(hot, small_diagnoser())[0].gauge
    assert (beyond.value, beyond.beyond) == (1.0, True)


def test_yes_is_drawn_to_the_left_whether_it_is_a_metric_or_a_question():
    diagnoser = default_diagnoser()
    found = diagnose_record(diagnoser, record_of(**dict.fromkeys(diagnoser.reference.metrics, 0.1)))
    nodes = plots.decision_path_data(found, diagnoser)
    assert nodes[0].text == "healthy?"
    yes, no = sorted((n for n in nodes if n.parent == 0), key=lambda n: n.x)
    assert (yes.side, yes.label) == ("left", "healthy")
    assert (no.side, no.text) == ("right", "held back by the model's size\nrather than by the temperature?")
    small = plots.decision_path_data(found, diagnoser, "healthy")
    first = diagnoser.tree("healthy", found.diagnoser["evidence"]).tree
    assert f"≤ {first.threshold:g} ?" in small[0].text
    below = next(n for n in small if n.parent == 0 and n.side == "left")
    assert below.taken == (first.threshold >= 0.1)


def test_a_missing_metric_marks_both_branches():
    found = diagnose_record(small_diagnoser(), record_of(train_error_percent=20.0))
    nodes = plots.decision_path_data(found, small_diagnoser())
    assert [n.taken for n in nodes] == [True, True, False, True, True]
    assert "not measured" in nodes[0].text
    assert nodes[0].gauge is None


def test_the_lit_way_is_drawn_bold_and_its_leaf_filled(diagnosis):
    nodes = plots.decision_path_data(diagnosis, small_diagnoser())
    ax = plots.draw_decision_path(nodes)
    boxes = ax.patches
    assert len(boxes) == len(nodes)
    lit = [mpl.colors.to_hex(box.get_facecolor()) for box in boxes][3]
    assert lit == plots.COLOURS["temperature_too_low"]
    thick = [box.get_linewidth() > 1.5 for box in boxes]
    assert thick == [n.taken for n in nodes]
    bold = [t.get_text() for t in ax.texts if t.get_fontweight() == "bold"]
    assert bold == ["yes", "no", "here 0.5", "here 20 ± 1", "temperature", "too low", "80%"]


def test_boxes_of_a_tree_never_overlap(diagnosis):
    from mdtree.plots.tree_drawing import _laid_out

    diagnoser = default_diagnoser()
    found = diagnose_record(diagnoser, record_of(**dict.fromkeys(diagnoser.reference.metrics, 0.1)))
    for question in ("verdict", *plots.path_questions(found)):
        boxes, (left, right, bottom, top) = _laid_out(plots.decision_path_data(found, diagnoser, question))
        for i, a in enumerate(boxes):
            assert left < a.x - a.width / 2
            assert a.x + a.width / 2 < right
            assert bottom < a.y - a.height / 2
            assert a.y + a.height / 2 < top
            for b in boxes[:i]:
                apart_x = abs(a.x - b.x) >= (a.width + b.width) / 2 + 5
                apart_y = abs(a.y - b.y) >= (a.height + b.height) / 2 + 5
                assert apart_x or apart_y, (question, a.lines, b.lines)


@pytest.mark.parametrize("evidence", ["alone", "alone_test", "sibling", "sibling_test"])
def test_every_evidence_set_has_its_trees_drawn(evidence):
    diagnoser = default_diagnoser()
    values = dict.fromkeys(diagnoser.reference.metrics, 0.1) | {"train_error_percent": 9.0}
    found = diagnose_record(diagnoser, record_of(**values), evidence)
    asked = plots.path_questions(found)
    assert asked[0] == "healthy"
    for question in ("verdict", *asked):
        nodes = plots.decision_path_data(found, diagnoser, question)
        leaves = [n for n in nodes if n.label]
        assert sum(n.taken for n in leaves) == 1
        assert len(leaves) <= 8
        assert min(n.y for n in nodes) >= -4
    unasked = next(q for q in ("model_or_data", "temperature") if q not in asked)
    with pytest.raises(InputError, match=f"the question {unasked} was not asked"):
        plots.decision_path_data(found, diagnoser, unasked)


def test_steps_stand_in_the_order_of_the_path_with_thresholds_as_they_decide():
    diagnoser = default_diagnoser()
    found = diagnose_record(diagnoser, record_of(**dict.fromkeys(diagnoser.reference.metrics, 0.1)))
    groups = plots.path_steps_data(found, diagnoser)
    drawn = [step for asked in groups for step in asked.steps]
    assert [(s.metric, float(s.threshold)) for s in drawn] == [(s.feature, s.threshold) for s in found.path]
    assert [s.sign for s in drawn] == ["≤" if s.side == "left" else ">" for s in found.path]
    assert [asked.question for asked in groups] == list(plots.path_questions(found))
    answers = {asked.question: asked.answer for asked in groups}
    lit = {n.text: n for n in plots.decision_path_data(found, diagnoser) if n.taken}
    assert answers["healthy"] == ("yes" if "healthy" in next(reversed(lit)) else "no")
    shown = texts(plots.draw_path_steps(groups))
    assert all(f"{s.sign} {s.threshold}".replace("-", "−") in shown for s in drawn)


def test_a_value_is_never_rounded_over_its_threshold():
    assert measured(0.4400335, 2.0) == "0.44"
    assert measured(7.31816, 7.31815) == "7.3182"  # 7.318 would stand on the other side
    assert measured(0.999713, 0.999713) == "0.9997"  # equal counts as at most
    assert measured(0.99971299, 0.999713) == "0.9997"
    assert measured(1.00000001, 1.0) == "1.00000001"
    assert with_error(25.628, 2.1884, 7.3) == "25.63 ± 2.2"
    assert with_error(25.628, 1e-9, 7.3) == "25.63"


def test_powers_of_ten_are_text():
    assert [power_of_ten(v) for v in (1e-5, 0.01, 1.0, 100.0, 1e3, 2e-4)] == [
        "10⁻⁵",
        "0.01",
        "1",
        "100",
        "10³",
        "0.0002",
    ]


def test_gains_are_those_of_the_ranking(diagnosis):
    gains = plots.gains_data(diagnosis)
    ranked = [c for c in diagnosis.ranking if c.failure != "healthy"]
    assert [(g.failure, g.gain_points, g.room_points) for g in gains] == [
        (c.failure, c.expected_gain_points, c.room_points) for c in ranked
    ]
    assert gains[0].change == "learning rate 0.2 → 0.8"
    assert gains[2].change.startswith(("width × ", "training samples × "))
    ax = plots.draw_gains(gains)
    solid = [bar for bar in ax.patches if bar.get_height() == pytest.approx(0.42)]
    ghosts = [bar for bar in ax.patches if bar.get_height() == pytest.approx(0.66)]
    assert [bar.get_width() for bar in solid] == [g.gain_points for g in gains]
    assert [bar.get_width() for bar in ghosts] == [g.room_points for g in gains]
    assert [bar.get_hatch() or "" for bar in solid] == [plots.HATCHES[g.failure] for g in gains]


def test_a_harmful_change_is_a_bar_to_the_left_with_its_error():
    harm = plots.Gain("temperature_too_high", "learning rate × 0.5", -17.2, 2.0, 1.5, 0.02)
    ax = plots.draw_gains([harm])
    ends = ax.collections[0].get_segments()[0][:, 0]
    assert ends.tolist() == pytest.approx([-17.2 - 3.92, -17.2 + 3.92])
    assert "−17.2 ± 2.0" in texts(ax)
    assert ax.get_xlim()[0] < -17.2 - 3.92
    assert ax.get_yticklabels()[0].get_text() == "temperature too high, 2%\nlearning rate × 0.5"


def test_the_ranking_is_drawn_most_probable_first(diagnosis):
    ranking = plots.ranking_data(diagnosis)
    assert ranking[0] == ("temperature_too_low", pytest.approx(0.8))
    ax = plots.draw_ranking(ranking)
    assert [bar.get_width() for bar in ax.patches] == [share for _, share in ranking]
    assert ax.yaxis_inverted()


def test_the_barrier_is_read_off_between_the_ends():
    data = plots.curve_data(with_series())
    assert (data.peak_t, data.peak_percent, data.ends_percent, data.barrier_percent) == (0.5, 30.0, 12.0, 18.0)
    ax = plots.draw_curve(data)
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    assert list(drawn["trained curve"]) == [10.0, 12.0, 30.0, 14.0, 14.0]
    assert list(drawn["straight line"]) == [10.0, 80.0, 14.0]
    assert ax.get_title(loc="right") == "barrier +18.0 points"


def test_the_spectrum_tells_its_negative_share_from_the_atoms_and_marks_the_largest():
    data = plots.spectrum_data(with_series())
    assert data.negative_share == pytest.approx((0.2 + 0.1) / 2)  # -0.4 lies within the kernel's width of 0
    assert data.top == (4.0, 1.5)
    ax = plots.draw_spectrum(data)
    assert ax.get_yscale() == "log"
    marks = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "v"]
    assert marks == [4.0, 1.5]
    assert ax.get_title(loc="right") == "15.0% negative, to −2"
    assert ax.lines[0].get_ydata().tolist() == [0.1, 0.3, 0.3e-5, 0.1]
    assert any(area.get_hatch() for area in ax.collections)


def test_layers_are_compared_by_the_root_of_the_mean_square():
    data = plots.layers_data(with_series())
    assert [(x.shape, x.weight_rms) for x in data.shown] == [("3×4", pytest.approx(6 / math.sqrt(12))), ("4", 1.0)]
    assert plots.layers_data(with_series(), most=1).left_out == 1
    ax = plots.draw_layers(data)
    assert [len(line.get_xdata()) for line in ax.lines] == [2, 1]  # a gradient of 0 has no logarithm
    assert ax.get_yticklabels()[1].get_text() == r"'\$x\$\n'  4"  # a hostile name is no formula and no new line


@pytest.mark.parametrize(
    "series",
    [
        {"curve": {"t": [0, 1], "error_percent": [1.0]}},
        {"curve": {"t": [0, "x"], "error_percent": [1.0, 2.0]}},
        {"linear_path": {"t": [0.0, 1.0], "error_percent": [1.0, math.nan]}},
        {"curve": {"t": [[0.0, 1.0]], "error_percent": [1.0, 1.0]}},
    ],
)
def test_damaged_series_are_refused(series):
    with pytest.raises(InputError, match="damaged"):
        plots.curve_data(with_series(**series))


def test_damaged_spectra_and_layers_are_refused():
    with pytest.raises(InputError, match="spectral density is damaged"):
        plots.spectrum_data(with_series(spectral_density={"eigenvalues": [1.0], "density": [0.0]}))
    record = Record({}, {}, {}, {}, {}, layers=({"name": "a", "shape": [1], "parameters": 0, "weight_norm": 1.0},))
    with pytest.raises(InputError, match="layers of the record are damaged"):
        plots.layers_data(record)


def test_what_was_not_measured_is_said():
    record = record_of(train_error_percent=1.0)
    with pytest.raises(InputError, match="no curve; expected one measured with --sibling"):
        plots.curve_data(record)
    with pytest.raises(InputError, match="no spectral density"):
        plots.spectrum_data(record)
    with pytest.raises(InputError, match="lists no layers"):
        plots.layers_data(record)


def test_stated_and_observed_by_hand():
    data = plots.calibration_data([0.55, 0.57, 0.95, 1.0], [True, False, True, True], (0.5, 0.6, 1.0))
    assert [(b.stated, b.observed, b.answers) for b in data.bins] == [
        (pytest.approx(0.56), 0.5, 2), (pytest.approx(0.975), 1.0, 2),
    ]  # fmt: skip
    assert data.error == pytest.approx((2 * 0.06 + 2 * 0.025) / 4)
    ax = plots.draw_calibration(data)
    assert ax.containers[0].lines[0].get_ydata().tolist() == [50.0, 100.0]
    assert texts(ax) == ["2", "2"]
    for stated, right in (([], []), ([0.5], [True, False]), ([1.2], [True])):
        with pytest.raises(InputError):
            plots.calibration_data(stated, right)


def test_learning_curves_have_a_line_per_method_sorted():
    points = [CurvePoint("configurations", m, x, a, 0.02) for m, a in (("b", 0.7), ("a", 0.8)) for x in (50.0, 12.0)]
    data = plots.learning_curves_data(points)
    assert [line.method for line in data.lines] == ["b", "a"]
    assert data.lines[1].x == (12.0, 50.0)
    ax = plots.draw_learning_curves(data)
    assert ax.lines[1].get_ydata().tolist() == [80.0, 80.0]
    assert ax.lines[0].get_marker() != ax.lines[1].get_marker()
    with pytest.raises(InputError, match="no points"):
        plots.learning_curves_data(points, "width limit")


def test_a_transfer_table_holds_every_part_and_method_in_percent():
    result = run_transfer(together(family("a"), family("b", 1)), "family", methods=QUICK)
    data = plots.transfer_table_data(result, "temperature")
    assert data.parts == ("a", "b")
    assert data.methods[:2] == ("tree, alone", "tree, alone test")
    assert "majority" in data.methods
    (run,) = [
        r
        for r in result.runs
        if (r.left_out, r.question, r.evidence, r.method) == ("b", "temperature", "alone", "default")
    ]
    assert data.percent[1, 0] == pytest.approx(100 * run.balanced_accuracy)
    ax = plots.draw_transfer_table(data)
    assert texts(ax) == [f"{v:.0f}" if v == v else "–" for v in data.percent.ravel()]
    with pytest.raises(InputError, match="balanced_accuracy of weather"):
        plots.transfer_table_data(result, "weather")


def surface(**values):
    loss = ((4.0, 2.0, 4.0), (1.0, 0.5, 1.0), (math.inf, 2.0, 4.0))
    given = {
        "directions": "filter", "x": (-1.0, 0.0, 1.0), "y": (-2.0, 0.0, 2.0), "loss": loss, "error_percent": None,
        "eigenvalues": None, "norms": (1.0, 1.0), "cosine": 0.0, "batch_norm_fixed": False, "samples": 9,
        "sample_gradients": 27.0,
    }  # fmt: skip
    return LossSurface(**(given | values))


def test_the_lines_of_a_surface_are_even_in_the_logarithm():
    data = plots.loss_surface_data(surface(), levels=4)
    assert data.levels.tolist() == pytest.approx([0.5, 1.0, 2.0, 4.0])
    assert data.centre == 0.5
    assert np.isnan(data.loss[2, 0])
    ax = plots.draw_loss_surface(data)
    lines = next(c for c in ax.collections if not c.filled)
    assert lines.levels.tolist() == pytest.approx([1.0, 2.0])
    assert "0.5" in texts(ax)
    assert ax.get_xlabel() == "filter direction 1 (norms of the filters)"
    flat = plots.loss_surface_data(surface(loss=((0.7,) * 3,) * 3))
    assert plots.draw_loss_surface(flat).collections


def test_a_surface_says_what_its_axes_are_and_what_was_held_fixed():
    data = plots.loss_surface_data(surface(eigenvalues=(6.274, 3.5), batch_norm_fixed=True))
    assert (data.x_label, data.y_label) == ("eigenvector 1 (eigenvalue 6.27)", "eigenvector 2 (eigenvalue 3.5)")
    assert plots.draw_loss_surface(data).get_title(loc="right") == "BatchNorm statistics held fixed"
    with pytest.raises(InputError, match="without a positive loss"):
        plots.loss_surface_data(surface(loss=((math.nan,) * 3,) * 3))


def test_every_drawing_takes_an_axis_and_leaves_pyplot_alone(diagnosis):
    before = dict(mpl.rcParams)
    record = with_series()
    drawn = [
        (plots.draw_decision_path, plots.decision_path_data(diagnosis, small_diagnoser())),
        (plots.draw_path_steps, plots.path_steps_data(diagnosis, small_diagnoser())),
        (plots.draw_gains, plots.gains_data(diagnosis)),
        (plots.draw_ranking, plots.ranking_data(diagnosis)),
        (plots.draw_curve, plots.curve_data(record)),
        (plots.draw_spectrum, plots.spectrum_data(record)),
        (plots.draw_layers, plots.layers_data(record)),
        (plots.draw_phase_diagram, plots.phase_diagram_data(diagnosis, default_diagnoser())),
    ]
    for draw, data in drawn:
        ax = Figure().add_subplot()
        assert draw(data, ax=ax) is ax
        assert draw(data).figure is not None
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_small_multiples_share_their_range_and_say_labels_once():
    other = with_series(linear_path={"t": [0.0, 1.0], "error_percent": [10.0, 95.0]})
    parts = [("$a$", plots.curve_data(with_series())), ("b", plots.curve_data(other))]
    figure = plots.small_multiples(plots.draw_curve, parts)
    first, second = figure.axes
    assert first.get_ylim() == second.get_ylim()
    assert first.get_ylim()[1] == pytest.approx(1.3 * 95)
    assert first.get_title(loc="left") == "\\$a\\$\nbarrier +18.0 points"
    assert figure.get_supylabel() == "train error (%)"
    assert first.get_ylabel() == ""
    assert [t.get_text() for t in figure.legends[0].texts] == ["straight line", "trained curve", "mean of the ends"]
    with pytest.raises(InputError):
        plots.small_multiples(plots.draw_curve, [])


@pytest.fixture(scope="module")
def samples():
    """A diagnosis of every sample checkpoint, with its sibling."""
    from mdtree.diagnose import Sources, measure

    folder = Path(__file__).parents[2] / "zoo_samples" / "checkpoints"
    paths = sorted(path for path in folder.glob("*.pt") if "sibling" not in path.name)
    diagnoser = default_diagnoser()
    return [
        diagnose_record(diagnoser, measure(path, Sources(siblings=(path.with_suffix(".sibling.pt"),))))
        for path in paths
    ]


@pytest.mark.slow
def test_every_picture_of_every_sample_checkpoint(samples):
    diagnoser = default_diagnoser()
    assert len(samples) == 8
    for found in samples:
        record = found.record
        for draw, data in (
            (plots.draw_decision_path, plots.decision_path_data(found, diagnoser)),
            *(
                (plots.draw_decision_path, plots.decision_path_data(found, diagnoser, question))
                for question in plots.path_questions(found)
            ),
            (plots.draw_path_steps, plots.path_steps_data(found, diagnoser)),
            (plots.draw_phase_diagram, plots.phase_diagram_data(found, diagnoser)),
            (plots.draw_spectrum, plots.spectrum_data(record)),
            (plots.draw_curve, plots.curve_data(record)),
            (plots.draw_gains, plots.gains_data(found)),
            (plots.draw_layers, plots.layers_data(record)),
        ):
            assert draw(data).has_data() or draw is plots.draw_decision_path
            if found is samples[0]:  # rendering takes ten times as long as drawing
                assert len(plots.svg(draw, data)) < 200_000
        lit = [n.label for n in plots.decision_path_data(found, diagnoser) if n.label and n.taken]
        assert lit == [found.verdict]
        curve = plots.curve_data(record)
        assert curve.barrier_percent == pytest.approx(record.metrics["connectivity_barrier_percent"].value)
        assert plots.spectrum_data(record).top[0] == pytest.approx(record.metrics["hessian_top_eigenvalue"].value)
    together_ = plots.phase_diagram_data(samples, diagnoser)
    assert [p.verdict for p in together_.checkpoints] == [found.verdict for found in samples]
    assert set(FAILURES) >= {p.verdict for p in together_.checkpoints}
    assert np.isfinite([p.temperature for p in together_.checkpoints]).all()
