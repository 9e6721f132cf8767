"""The public benchmark on the real table: the figures that are claimed, the form that others read, bad input."""

import json
import math
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from mdtree.benchmark_cases import CASES
from mdtree.benchmark_methods import METHODS
from mdtree.cli.app import app, main
from mdtree.public_benchmark import CLEAN_FILE, NOISY_FILE, read_collections, run_benchmark
from mdtree.public_benchmark_text import benchmark_text
from mdtree.zoo import EVIDENCE

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
FIGURES = {"accuracy", "balanced_accuracy", "std", "regret_points", "gain_captured"}
SHARES = FIGURES - {"regret_points"}


@pytest.fixture(scope="module")
def folder():
    return Path(os.environ.get("MDTREE_DATA", "")) / "modeldiagnosis"


@pytest.fixture(scope="module")
def result(folder):
    return run_benchmark(read_collections(folder), ["paper", "posterior", "hyperparameter"])


@pytest.fixture(autouse=True)
def _real_data(mdtree_data):
    """Every test here stands on the real table."""


def test_every_case_and_method_has_every_figure(result):
    assert set(result["cases"]) == {str(case.number) for case in CASES}
    for methods in result["cases"].values():
        assert set(methods) == {"paper", "posterior", "hyperparameter"}
        for figures in methods.values():
            assert set(figures) >= FIGURES
            assert all(0 <= figures[name] <= 1 for name in SHARES)
            assert figures["regret_points"] >= 0
    json.dumps(result, allow_nan=False)


def test_ties_are_dropped_and_counted(result):
    assert [result["cases"][n]["paper"]["n"] for n in "1234567"] == [1560, 1560, 1560, 1649, 1649, 634, 634]
    assert result["cases"]["1"]["paper"]["dropped_share"] == pytest.approx(130 / 1690)
    assert result["cases"]["7"]["paper"]["dropped_share"] == pytest.approx(16 / 650)


def test_gain_captured_and_regret_tell_the_same_story(result):
    """Both come from the mean gain of the best action, which does not depend on the method."""
    for methods in result["cases"].values():
        best = [f["regret_points"] / (1 - f["gain_captured"]) for f in methods.values()]
        assert best == pytest.approx([best[0]] * len(best))


def test_one_step_has_its_columns_and_the_oracle_is_never_beaten(result):
    for methods in result["one_step"].values():
        oracle = methods["oracle"]
        for figures in methods.values():
            assert set(figures) == {"one", "random", "best", "one_unclipped", "best_unclipped"}
            assert figures["best"] <= oracle["best"] + 1e-9
            assert figures["one_unclipped"] <= figures["one"] + 1e-9


def test_the_verdict_is_told_on_and_off_the_grid_beside_its_baselines(result):
    assert list(result["verdict"]) == ["all", "data <= 20 %", "width <= 11", "both"]
    assert [s["n"] for s in result["verdict"].values()] == [1690, 924, 594, 462]
    for setting in result["verdict"].values():
        names = set(setting["methods"])
        assert {"best_constant", "hyperparameter", "validation"} <= names
        assert {f"{kind}/{e}" for kind in ("travelling", "grown", "policy") for e in EVIDENCE} <= names


def test_thresholds_are_told_with_intervals_and_whether_the_rows_tell(result):
    questions = [question for case in result["thresholds"].values() for question in case]
    assert all(q["interval"][0] <= q["threshold"] <= q["interval"][1] for q in questions)
    assert {q["identified"] for q in questions} == {True, False}
    unknown = next(q for q in questions if not q["identified"])
    line = next(
        t for t in benchmark_text(result).splitlines() if f"{unknown['feature']} <= {unknown['threshold']:.3g}" in t
    )
    assert line.endswith("the rows hardly tell)")


def test_abstention_is_told_with_its_curve(result):
    for found in result["abstention"].values():
        curve = found["risk_coverage"]
        assert curve["coverage"][-1] == 1
        assert curve["risk"][-1] == pytest.approx(1 - found["accuracy_of_all"])
        assert sum(row["n"] for row in found["reliability"]) == found["n"]
        assert all(row["low"] <= row["observed"] <= row["high"] for row in found["reliability"])


def test_the_text_holds_every_method_and_says_what_was_dropped(result):
    text = benchmark_text(result)
    assert "7.7% ties dropped" in text
    for name in ("posterior", "paper", "best_constant", "oracle", "travelling/sibling"):
        assert name in text
    assert "nan" not in text
    share = 100 * result["cases"]["3"]["posterior"]["accuracy"]
    assert f"{share:.2f}" in text


def test_the_command_prints_json_for_the_methods_asked_for(folder, monkeypatch):
    monkeypatch.setattr("mdtree.public_benchmark.verdict_report", lambda *rest: {})
    monkeypatch.setattr("mdtree.public_benchmark.abstention_report", lambda *rest: {})
    run = CliRunner().invoke(app, ["benchmark", "modeldiagnosis", str(folder), "--method", "paper", "--json"])
    printed = json.loads(run.stdout)
    assert printed["default_method"] in METHODS
    assert set(printed["cases"]["4"]) == {"paper"}
    assert printed["cases"]["1"]["paper"]["accuracy"] == pytest.approx(0.87705, abs=5e-4)


def broken_folder(tmp_path, folder, kind):
    for name in (CLEAN_FILE, NOISY_FILE):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    if kind == "one file missing":
        (tmp_path / NOISY_FILE).unlink()
    elif kind == "not that table":
        (tmp_path / NOISY_FILE).write_text("a,b\n1,2\n")
    elif kind == "a column missing":
        lines = (tmp_path / CLEAN_FILE).read_text().replace("CKA", "KCA", 1)
        (tmp_path / CLEAN_FILE).write_text(lines)
    elif kind == "not a number":
        lines = (tmp_path / CLEAN_FILE).read_text().splitlines()
        (tmp_path / CLEAN_FILE).write_text("\n".join([lines[0], lines[1].replace(",2,", ",two,", 1), *lines[2:]]))
    return tmp_path


@pytest.mark.parametrize("kind", ["one file missing", "not that table", "a column missing", "not a number"])
def test_a_folder_that_is_not_the_table_is_refused_in_one_line(kind, tmp_path, folder, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", "modeldiagnosis", str(broken_folder(tmp_path, folder, kind))])
    printed = capsys.readouterr()
    assert stopped.value.code == 2
    assert printed.out == ""
    assert len(printed.err.strip().splitlines()) == 1


@pytest.mark.parametrize("words", [["nowhere"], ["--method", "magic"], ["--figures", __file__]])
def test_words_that_make_no_sense_are_refused_in_one_line_and_at_once(words, folder, capsys, monkeypatch):
    monkeypatch.setattr("mdtree.public_benchmark.case_figures", lambda *rest: pytest.fail("it went to work first"))
    place = ["/nowhere/at/all"] if words == ["nowhere"] else [str(folder), *words]
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", "modeldiagnosis", *place])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_figures_are_drawn_and_show_something(folder, tmp_path, result):
    import matplotlib.image

    from mdtree.learning_curves import CurvePoint
    from mdtree.public_benchmark_plots import write_figures

    points = [
        CurvePoint(axis, "paper", x, 0.5 + 0.01 * math.log(x), 0.02)
        for axis in ("configurations", "data limit", "width limit")
        for x in (2.0, 12.0, 96.0)
    ]
    for path in write_figures(tmp_path / "new", points, result["abstention"]):
        assert matplotlib.image.imread(path)[..., :3].std() > 0.02


@pytest.mark.parametrize(
    ("row", "method"), [("**default**", "posterior"), ("the paper's tree, fitted as published", "paper")]
)
def test_the_readme_says_what_is_measured(result, row, method):
    line = next(text for text in README.splitlines() if text.startswith(f"| {row} |"))
    shown = [float(cell.strip(" *")) for cell in line.split("|")[2:9]]
    assert shown == [round(100 * result["cases"][n][method]["accuracy"], 2) for n in "1234567"]


def test_the_readme_claims_off_the_grid_what_is_measured(result):
    methods = {"default shape, a pair": "travelling/sibling", "tree on width, data, batch size": "hyperparameter"}
    for row, method in methods.items():
        line = next(text for text in README.splitlines() if text.startswith(f"| {row} |"))
        shown = [float(cell.strip(" *")) for cell in line.split("|")[2:6]]
        measured = [s["methods"][method]["gain_captured"] for s in result["verdict"].values()]
        assert shown == [round(100 * value, 1) for value in measured]


def test_what_is_claimed_holds(result):
    """The floors that the documentation claims: every case at or above the paper's tree, in accuracy and regret."""
    for methods in result["cases"].values():
        assert methods["posterior"]["accuracy"] >= methods["paper"]["accuracy"]
        assert methods["posterior"]["regret_points"] <= methods["paper"]["regret_points"]
    corner = result["verdict"]["data <= 20 %"]["methods"]
    for baseline in ("hyperparameter", "validation", "best_constant"):
        assert corner["travelling/sibling"]["gain_captured"] > corner[baseline]["gain_captured"]
    step = result["one_step"]["temperature"]
    assert step["posterior"]["one_unclipped"] > max(step["paper"]["one_unclipped"], step["always_up"]["one_unclipped"])
