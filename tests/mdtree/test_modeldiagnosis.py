"""The public table of the MD tree paper: every room and label is computed again from its test accuracies alone."""

import csv
import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest

from mdtree.errors import InputError
from mdtree.modeldiagnosis import read_public_table
from mdtree.room import step_gains
from mdtree.zoo import COLUMNS, DIRECTIONS, LABEL_COLUMNS, RFI_COLUMNS, read_zoo, write_zoo

TABLES = {"clean": "dataframe_normal_public.csv", "noisy": "dataframe_noise_public.csv"}


@pytest.fixture(params=TABLES)
def table(request, mdtree_data):
    return mdtree_data / "modeldiagnosis" / TABLES[request.param]


@pytest.fixture
def clean(mdtree_data):
    return mdtree_data / "modeldiagnosis" / TABLES["clean"]


WIDTHS, BATCHES, SIZES = (2, 8, 32), (16, 64, 256), (5000, 25000, 50000)


def small_table(accuracy):
    """Rows of a 3 x 3 x 3 grid in the published columns, from a rule for the test accuracy."""
    rows = []
    for n, w, b in itertools.product(SIZES, WIDTHS, BATCHES):

        def room(others, own=(w, n, b)):
            return max([0.0, *(accuracy(*other) - accuracy(*own) for other in others)])

        wider = room((x, n, b) for x in WIDTHS if x > w)
        more = room((w, x, b) for x in SIZES if x > n)
        up = room((w, n, x) for x in BATCHES if x < b)
        down = room((w, n, x) for x in BATCHES if x > b)
        rows.append(
            {
                "data_amount": n, "para_amount": 3000 * w, "width": w, "bs": b, "test_loss": 1.5, "train_loss": 0.25,
                "CKA": 0.5, "hessian_e": 2.0, "hessian_t": 3.0, "mode_connectivity_peak": -20.0,
                "test_error": 100.0 - accuracy(w, n, b), "train_error": 18.0,
                "rfi_width": wider, "rfi_data": more, "rfi_inc_temp": up, "rfi_dec_temp": down,
                "bs_failure": "small" if up > down else "large" if down > up else "optimal",
                "width_vs_batch": against(wider, max(up, down), "width"),
                "data_vs_batch": against(more, max(up, down), "data"),
            }
        )  # fmt: skip
    return rows


def against(room, temperature, name):
    return name if room > temperature else "batch" if temperature > room else "optimal"


def hill(w, n, b):
    """Best at batch size 64; the other batch sizes, the smaller widths and sizes cost a known number of points."""
    return 90.0 - {16: 7.0, 64: 0.0, 256: 4.0}[b] - {2: 3.0, 8: 0.75, 32: 0.0}[w] - {5000: 9, 25000: 0.5, 50000: 0}[n]


def write_rows(path, rows):
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def by_cell(frame):
    return frame.set_index("cell")


# what the published words mean, written once more: `small` and `large` speak of the temperature
TEMPERATURE_LABELS = {1: "temperature_too_low", -1: "temperature_too_high", 0: "ambiguous"}


def sign(value):
    return (value > 0) - (value < 0)


def test_every_room_and_label_follows_from_the_test_accuracies_alone(table):
    """Reads `test_acc` and the three axes, nothing else; raising the temperature is taking a smaller batch."""
    with open(table, newline="") as handle:
        lines = list(csv.DictReader(handle))
    accuracy = {(int(r["width"]), int(r["data_amount"]), int(r["bs"])): float(r["test_acc"]) for r in lines}
    places = list(accuracy)
    widths, sizes, batches = (sorted({place[k] for place in places}) for k in range(3))
    assert (len(widths), len(sizes), len(batches)) == (13, 10, 13)
    imported = read_public_table(table)
    assert len(imported) == len(lines) == 1690
    for (w, n, b), row in zip(places, imported.itertuples(), strict=True):
        own = accuracy[w, n, b]
        room = {
            "temperature_up": max([0.0, *(accuracy[w, n, x] - own for x in batches if x < b)]),
            "temperature_down": max([0.0, *(accuracy[w, n, x] - own for x in batches if x > b)]),
            "model_size": max([0.0, *(accuracy[x, n, b] - own for x in widths if x > w)]),
            "data": max([0.0, *(accuracy[w, x, b] - own for x in sizes if x > n)]),
        }
        assert row.cell == f"w{w}-n{n}-b{b}"
        for direction, points in room.items():
            assert getattr(row, f"rfi_{direction}_points") == pytest.approx(points, abs=1e-9), (row.cell, direction)
        up, down = room["temperature_up"], room["temperature_down"]
        temperature = max(up, down)
        assert row.label_temperature == TEMPERATURE_LABELS[sign(up - down)], row.cell
        causes = {1: "model_too_small", -1: "temperature", 0: "ambiguous"}
        assert row.label_model_size == causes[sign(room["model_size"] - temperature)], row.cell
        causes[1] = "too_little_data"
        assert row.label_data == causes[sign(room["data"] - temperature)], row.cell
        assert row.label_verdict == house_verdict(
            room,
            at_the_end=w == widths[-1] or n == sizes[-1],
            way_back={batches[0]: down, batches[-1]: up}.get(b),
        ), row.cell


def house_verdict(room, at_the_end, way_back):
    """The rule of the house in four lines; `way_back` is the room inwards at an end of the temperature axis."""
    if at_the_end or (way_back is not None and way_back < 1.0):
        return "censored"
    if max(room.values()) < 1.0:
        return "healthy"
    (best, first), (_, second) = sorted(room.items(), key=lambda item: -item[1])[:2]
    names = {"temperature_up": "temperature_too_low", "temperature_down": "temperature_too_high"}
    names |= {"model_size": "model_too_small", "data": "too_little_data"}
    return names[best] if first - second > 0.5 else "ambiguous"


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        (
            "clean",
            {
                "label_temperature": {"temperature_too_low": 846, "temperature_too_high": 714, "ambiguous": 130},
                "label_model_size": {"model_too_small": 916, "temperature": 753, "ambiguous": 21},
                "label_data": {"too_little_data": 938, "temperature": 711, "ambiguous": 41},
                "label_verdict": {
                    "too_little_data": 537, "model_too_small": 536, "censored": 293, "temperature_too_high": 191,
                    "ambiguous": 83, "temperature_too_low": 38, "healthy": 12,
                },
            },
        ),
        (
            "noisy",
            {
                "label_temperature": {"temperature_too_low": 1010, "temperature_too_high": 550, "ambiguous": 130},
                "label_model_size": {"model_too_small": 883, "temperature": 766, "ambiguous": 41},
                "label_data": {"too_little_data": 970, "temperature": 681, "ambiguous": 39},
                "label_verdict": {
                    "too_little_data": 654, "model_too_small": 465, "censored": 304, "temperature_too_high": 110,
                    "ambiguous": 91, "temperature_too_low": 46, "healthy": 20,
                },
            },
        ),
    ],
)  # fmt: skip
def test_labels_are_as_many_as_published(run, mdtree_data, tmp_path, name, counts):
    source = mdtree_data / "modeldiagnosis" / TABLES[name]
    code, out, _ = run("zoo", "import", "modeldiagnosis", source, "-o", tmp_path / "zoo.csv", "--json")
    assert code == 0
    assert json.loads(out) == {"table": str(tmp_path / "zoo.csv"), "rows": 1690, "labels": counts}


def test_a_row_checked_by_hand(clean):
    """Line 2 of the file: width 2, all data, batch 16; exponentials and differences done on a desk calculator."""
    row = read_public_table(clean).iloc[0]
    expected = {
        "family": "modeldiagnosis", "data_set": "cifar10", "architecture": "resnet18", "cell": "w2-n50000-b16",
        "width": 2, "parameter_count": 11420, "train_size": 50000, "batch_size": 16, "temperature": 0.0625,
        "temperature_axis": "batch_size", "protocol": "published", "split": "fit", "diverged": 0,
        "train_error_percent": 45.764, "train_loss": 1.3749132334365846, "test_error_percent": 46.81,
        "test_loss": 1.4061466849422455, "gain_test_error_percent": 46.81, "train_error_over_chance": 0.5084889,
        "hessian_top_eigenvalue_magnitude": 78.50608, "hessian_trace": 229.1216,
        "hessian_trace_per_parameter": 0.02006319, "connectivity_peak_percent": 46.57,
        "connectivity_barrier_percent": 0.806, "connectivity_barrier_over_chance": 0.008955556, "cka": 0.28174204,
        "rfi_temperature_up_points": 0.0, "rfi_temperature_down_points": 11.188,
        "rfi_model_size_points": 25.414, "rfi_data_points": 0.0,
        "label_temperature": "temperature_too_high", "label_model_size": "model_too_small",
        "label_data": "temperature", "label_verdict": "censored",
    }  # fmt: skip
    for name, value in expected.items():
        assert row[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-6)), name
    assert row[[name for name in COLUMNS if name not in expected]].isna().all()


def test_types_order_and_signs(table):
    frame = read_public_table(table)
    assert tuple(frame.columns) == COLUMNS
    assert frame.index.equals(pd.RangeIndex(1690))
    assert (frame["temperature"] == 1.0 / frame["batch_size"]).all()
    peak = frame["connectivity_peak_percent"].to_numpy()
    assert (peak == 0).any()
    assert not np.signbit(peak).any()
    barrier_of_nothing = frame.loc[(peak == 0) & (frame["train_error_percent"] == 0), "connectivity_barrier_percent"]
    assert len(barrier_of_nothing)
    assert not np.signbit(barrier_of_nothing).any()
    # trained to a lower peak than its ends: the deviation keeps its sign
    assert (frame["connectivity_barrier_percent"] < 0).any()
    assert (frame["hessian_trace"] > 0).all()


def test_an_imported_table_reads_back_as_it_was_written(table, tmp_path):
    frame = read_public_table(table, label_noise=0.1)
    write_zoo(frame, tmp_path / "zoo.csv")
    again = read_zoo(tmp_path / "zoo.csv")
    pd.testing.assert_frame_equal(again, frame, check_exact=False, rtol=5e-6, atol=0)
    # counts of parameters are whole numbers, which six digits would not hold
    assert again["parameter_count"].max() == 44662922
    write_zoo(again, tmp_path / "twice.csv")
    assert (tmp_path / "twice.csv").read_bytes() == (tmp_path / "zoo.csv").read_bytes()


def test_steps_are_replayed_on_the_means_of_the_table(clean):
    """One step to the next smaller batch gains what the table says, clipped nowhere."""
    frame = read_public_table(clean)
    errors = by_cell(frame)["test_error_percent"]
    gains = step_gains(frame, {**dict.fromkeys(DIRECTIONS, (2.0,)), "temperature_up": (64 / 44, 4.0)})
    number = frame.index[frame["cell"] == "w8-n25000-b64"][0]
    expected = [errors["w8-n25000-b64"] - errors[f"w8-n25000-b{b}"] for b in (44, 16)]
    np.testing.assert_allclose(gains["temperature_up"][number], expected)
    assert np.isnan(gains["model_size"][(frame["width"] == 128).to_numpy()]).all()
    assert np.isfinite(gains["data"][(frame["train_size"] < 50000).to_numpy()]).all()


def test_train_and_evaluate_take_an_imported_table(run, mdtree_data, tmp_path):
    for name, file in TABLES.items():
        header, *lines = (mdtree_data / "modeldiagnosis" / file).read_text().splitlines()
        third = [line for line in lines if line.startswith(("10000,", "30000,", "50000,"))]
        (tmp_path / file).write_text("\n".join([header, *third]) + "\n")
        code, _, err = run("zoo", "import", "modeldiagnosis", tmp_path / file, "-o", tmp_path / f"{name}.csv")
        assert (code, err) == (0, "")
    code, out, err = run("train", tmp_path / "clean.csv", "-o", tmp_path / "d.json")
    assert (code, err) == (0, "")
    assert "fitted on 507 networks in 507 cells" in out
    diagnoser = json.loads((tmp_path / "d.json").read_text())
    assert diagnoser["zoo"]["protocols"] == ["published"]
    code, out, err = run("evaluate", tmp_path / "d.json", tmp_path / "noisy.csv", "--json")
    assert (code, err) == (0, "")
    questions = json.loads(out)["questions"]
    assert set(questions) == {"temperature", "model_size", "data", "verdict"}
    temperature = questions["temperature"]["sibling_test"]
    assert temperature["balanced_accuracy"] > 0.8
    assert temperature["n"] == 507


def test_labels_cannot_be_made_again_from_means(run, mdtree_data, tmp_path):
    source = mdtree_data / "modeldiagnosis" / TABLES["clean"]
    run("zoo", "import", "modeldiagnosis", source, "-o", tmp_path / "zoo.csv")
    code, out, err = run("zoo", "label", tmp_path / "zoo.csv", "-o", tmp_path / "again.csv")
    assert (code, out) == (2, "")
    assert err == (
        "mdtree: the zoo holds means over seeds (the column seed is empty); expected at least 3 seeds per cell; "
        "keep the labels it came with\n"
    )
    assert not (tmp_path / "again.csv").exists()


# from here on the tests need no real data


def test_import_prints_rows_and_labels(run, tmp_path):
    source = write_rows(tmp_path / "public.csv", small_table(hill))
    code, out, _ = run("zoo", "import", "modeldiagnosis", source, "-o", tmp_path / "zoo.csv", "--label-noise", "0.1")
    assert code == 0
    assert out.splitlines()[0] == f"{tmp_path / 'zoo.csv'}: 27 cells, means over seeds"
    assert "  label_temperature: ambiguous 9, temperature_too_high 9, temperature_too_low 9" in out
    assert (read_zoo(tmp_path / "zoo.csv")["label_noise"] == 0.1).all()


@pytest.mark.parametrize(
    ("cell", "verdict"),
    [
        ("w2-n5000-b64", "too_little_data"),
        ("w2-n25000-b64", "model_too_small"),
        ("w8-n25000-b64", "healthy"),
        ("w32-n25000-b64", "censored"),
        ("w8-n50000-b64", "censored"),
        # at the ends of the temperature axis the way back in gains 7 and 4 points: nothing is hidden beyond them
        ("w8-n25000-b16", "temperature_too_high"),
        ("w8-n25000-b256", "temperature_too_low"),
        ("w32-n25000-b16", "censored"),
    ],
)
def test_the_verdict_follows_the_rule_of_the_house(tmp_path, cell, verdict):
    frame = read_public_table(write_rows(tmp_path / "public.csv", small_table(hill)))
    assert by_cell(frame).at[cell, "label_verdict"] == verdict


@pytest.mark.parametrize(("lead", "verdict"), [(0.5, "ambiguous"), (0.75, "model_too_small")])
def test_two_causes_within_half_a_point_are_ambiguous(tmp_path, lead, verdict):
    def two_hills(w, n, b):
        # eighths of a point are exact
        return 80.0 + {16: 0.0, 64: 2.0, 256: 0.0}[b] + (2.0 + lead if w == 32 else 0.0) + (1.0 if n > 5000 else 0.0)

    frame = read_public_table(write_rows(tmp_path / "public.csv", small_table(two_hills)))
    assert by_cell(frame).at["w8-n5000-b16", "label_verdict"] == verdict


def test_an_end_of_the_temperature_axis_censors_where_the_way_back_gains_less_than_a_point(tmp_path):
    def flat(w, n, b):
        return 80.0 + {16: 0.0, 64: 0.75, 256: 0.0}[b] + (9.0 if w == 32 else 0.0)

    verdicts = by_cell(read_public_table(write_rows(tmp_path / "public.csv", small_table(flat))))["label_verdict"]
    assert verdicts["w8-n5000-b16"] == verdicts["w8-n5000-b256"] == "censored"
    assert verdicts["w8-n5000-b64"] == "model_too_small"


def test_the_order_of_rows_and_columns_and_blank_lines_do_not_matter(tmp_path):
    rows = small_table(hill)
    frame = read_public_table(write_rows(tmp_path / "public.csv", rows))
    turned = [dict(reversed(row.items())) for row in reversed(rows)]
    text = write_rows(tmp_path / "turned.csv", turned).read_text().replace("\r\n", "\r\n\r\n")
    (tmp_path / "turned.csv").write_text("\ufeff" + text, encoding="utf-8")
    again = read_public_table(tmp_path / "turned.csv")
    pd.testing.assert_frame_equal(again.iloc[::-1].reset_index(drop=True), frame)


@pytest.mark.parametrize("zero", ["0.0", "-0.0", "0"])
def test_a_peak_of_nothing_has_no_sign(tmp_path, zero):
    """The real tables write it as -0.0, which a mere change of sign happens to mend."""
    rows = [row | {"mode_connectivity_peak": zero, "train_error": "0.0"} for row in small_table(hill)]
    frame = read_public_table(write_rows(tmp_path / "public.csv", rows))
    for name in ("peak_percent", "barrier_percent", "barrier_over_chance"):
        assert (frame[f"connectivity_{name}"] == 0).all()
        assert not np.signbit(frame[f"connectivity_{name}"]).any()


def test_nothing_is_invented(tmp_path):
    frame = read_public_table(write_rows(tmp_path / "public.csv", small_table(hill)))
    rooms = [f"{name}_standard_error" for name in RFI_COLUMNS]
    unknown = [
        "seed",
        "sibling_seed",
        "learning_rate",
        "weight_decay",
        "label_noise",
        "optimizer",
        "schedule",
        "epochs",
    ]
    # the published top eigenvalue is a magnitude: its sign is not known
    unsigned = ["hessian_top_eigenvalue", "hessian_top_eigenvalue_per_parameter"]
    assert frame[rooms + unknown + unsigned].isna().all(axis=None)
    assert frame[list(LABEL_COLUMNS)].notna().all(axis=None)


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_label_noise_is_a_share(tmp_path, share):
    with pytest.raises(InputError, match="a share between 0 and 1"):
        read_public_table(write_rows(tmp_path / "public.csv", small_table(hill)), label_noise=share)


def set_cell(row, column, value):
    def change(rows):
        rows[row][column] = value

    return change


def drop(*columns):
    def change(rows):
        for row in rows:
            for column in columns:
                del row[column]

    return change


BAD_TABLES = {
    "one column": (drop("CKA"), "public.csv lacks the columns CKA; expected the public table"),
    "eleven columns": (
        drop("width", "bs", "para_amount", "train_error", "train_loss", "test_error", "test_loss", "hessian_e",
             "hessian_t", "CKA", "bs_failure"),
        "lacks the columns width, para_amount, bs, train_error, train_loss, test_error, test_loss, hessian_e "
        "and 3 more; expected",
    ),
    "text": (set_cell(3, "hessian_t", "big"), "line 5, column hessian_t: 'big'; expected a finite number"),
    "an empty cell": (set_cell(0, "CKA", ""), "line 2, column CKA: ''; expected a finite number"),
    "nan": (set_cell(1, "test_error", "nan"), "line 3, column test_error: 'nan'; expected a finite number"),
    "infinite": (set_cell(26, "hessian_e", "-inf"), "line 28, column hessian_e: '-inf'; expected a finite number"),
    "overflow": (set_cell(2, "hessian_e", "1e4"), "line 4, column hessian_e: 1e4; expected a number from -700 to 700"),
    "python's numeral": (set_cell(2, "train_loss", "1_0"), "line 4, column train_loss: '1_0'; expected a finite"),
    "no batch": (set_cell(2, "bs", 0), "line 4, column bs: 0; expected a whole number from 1"),
    "half a channel": (set_cell(2, "width", 2.5), "line 4, column width: 2.5; expected a whole number from 1"),
    "a positive peak": (set_cell(4, "mode_connectivity_peak", 3), "line 6, column mode_connectivity_peak: 3; expected"),
    "a share for percent": (set_cell(4, "test_error", 101), "test_error: 101; expected a number from 0 to 100"),
    "a negative loss": (set_cell(4, "test_loss", -1), "test_loss: -1; expected a number of at least 0"),
    "an unknown label": (
        set_cell(5, "bs_failure", "Large"), "line 7, column bs_failure: 'Large'; expected one of small, large, optimal"
    ),
    "another label's word": (
        set_cell(5, "data_vs_batch", "width"), "column data_vs_batch: 'width'; expected one of data, batch, optimal"
    ),
    "twice": (
        lambda rows: rows.append(dict(rows[1])),
        "line 29: width 2, data_amount 5000, bs 64 stands on line 3 already; expected one row per configuration",
    ),
}  # fmt: skip


def assert_refused(run, folder, source, message, *options):
    """Exit code 2, one line, and nothing written."""
    before = sorted(folder.iterdir())
    code, out, err = run("zoo", "import", "modeldiagnosis", source, "-o", folder / "zoo.csv", *options)
    assert (code, out) == (2, "")
    assert err.startswith("mdtree: ")
    assert len(err.splitlines()) == 1
    assert message in err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("kind", BAD_TABLES)
def test_a_bad_table_is_refused_in_one_line(run, tmp_path, kind):
    change, message = BAD_TABLES[kind]
    rows = small_table(hill)
    change(rows)
    assert_refused(run, tmp_path, write_rows(tmp_path / "public.csv", rows), message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "is empty"),
        (lambda text: text.splitlines()[0] + "\n", "holds no rows; expected one row per configuration"),
        (lambda text: "<!DOCTYPE html>\n<html></html>\n", "lacks the columns width, para_amount"),
        (lambda text: "\n\n" + text, "lacks the columns width, para_amount"),
        (lambda text: text.replace("\n", ",extra\n", 3).replace("extra", "CKA", 1), "holds the column CKA twice"),
        (lambda text: text[: text.rindex(",")], "line 28: 18 cells; expected 19, as many as the header"),
        (lambda text: text.rstrip() + ",1\n", "line 28: 20 cells; expected 19, as many as the header"),
        (lambda text: text[: text.rindex(",")] + ',"', "is not a CSV table (unexpected end of data)"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(run, tmp_path, change, message):
    text = write_rows(tmp_path / "public.csv", small_table(hill)).read_text()
    (tmp_path / "public.csv").write_text(change(text))
    assert_refused(run, tmp_path, tmp_path / "public.csv", message)


def test_what_is_no_text_file_is_refused_in_one_line(run, tmp_path):
    (tmp_path / "public.csv").write_bytes(b"\xff\xfe\x00\x01" * 50)
    assert_refused(run, tmp_path, tmp_path / "public.csv", "is not a CSV table")
    assert_refused(run, tmp_path, tmp_path / "missing.csv", "missing.csv does not exist")
    assert_refused(run, tmp_path, tmp_path, "is a folder")
    good = write_rows(tmp_path / "good.csv", small_table(hill))
    assert_refused(run, tmp_path, good, "label noise 2; expected a share between 0 and 1", "--label-noise", "2")


def test_an_unknown_format_or_a_missing_folder(run, tmp_path):
    good = write_rows(tmp_path / "good.csv", small_table(hill))
    code, _, err = run("zoo", "import", "elsewhere", good, "-o", tmp_path / "zoo.csv")
    assert code == 2
    assert "'elsewhere' is not 'modeldiagnosis'" in err
    code, _, err = run("zoo", "import", "modeldiagnosis", good, "-o", tmp_path / "none" / "zoo.csv")
    assert code == 2
    assert "cannot be written" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.csv"]
