"""The zoo table: written, read back, and refused when anything is missing."""

import numpy as np
import pandas as pd
import pytest
from synthetic_zoo import synthetic_zoo

from landscape.protocol import METRICS as LANDSCAPE_METRICS
from mdtree.errors import InputError
from mdtree.record import RECORD_METRICS
from mdtree.room import label_zoo
from mdtree.zoo import (
    COLUMNS,
    EVIDENCE,
    MEASURED_COLUMNS,
    METRICS,
    SIZE_BOUND,
    evidence_metrics,
    read_zoo,
    size_free_metrics,
    write_zoo,
)


@pytest.fixture(scope="module")
def zoo():
    return synthetic_zoo()


def test_a_table_reads_back_as_it_was_written(zoo, tmp_path):
    write_zoo(zoo, tmp_path / "zoo.csv")
    again = read_zoo(tmp_path / "zoo.csv")
    assert list(again.columns) == list(COLUMNS)
    np.testing.assert_allclose(again["hessian_trace"], zoo["hessian_trace"], rtol=5e-6)
    assert (again["label_verdict"] == zoo["label_verdict"]).all()
    write_zoo(again, tmp_path / "twice.csv")
    assert (tmp_path / "twice.csv").read_bytes() == (tmp_path / "zoo.csv").read_bytes()


def test_labels_can_be_made_again_from_the_table(zoo, tmp_path):
    write_zoo(zoo, tmp_path / "zoo.csv")
    measured = read_zoo(tmp_path / "zoo.csv", labelled=False)[list(MEASURED_COLUMNS)]
    assert (label_zoo(measured)["label_verdict"] == zoo["label_verdict"]).all()


def test_both_halves_name_the_same_metrics():
    """The deciding half imports no torch, so it keeps its own list; the two must not drift apart."""
    assert set(RECORD_METRICS) == set(LANDSCAPE_METRICS)


def test_evidence_sets_are_nested():
    alone, alone_test, sibling, sibling_test = (set(evidence_metrics(e)) for e in EVIDENCE)
    assert alone < alone_test < sibling_test
    assert alone < sibling < sibling_test
    assert "test_error_percent" not in sibling
    with pytest.raises(InputError, match="evidence 'much'"):
        evidence_metrics("much")


def test_what_travels_is_free_of_the_size_of_networks_and_tasks():
    alone, sibling = set(size_free_metrics("alone")), set(size_free_metrics("sibling"))
    assert alone == {
        "train_error_over_chance",
        "train_loss_over_chance",
        "hessian_top_eigenvalue_per_parameter",
        "hessian_trace_per_parameter",
        "gradient_norm_squared_per_parameter",
        "log_weight_growth",
        "feature_rank_share",
        "idle_feature_share",
        "logit_spread",
        "weight_noise_loss_over_chance",
    }
    assert sibling - alone == {"connectivity_barrier_over_chance", "cka", "cka_mixup", "disagreement_percent"}
    assert set(size_free_metrics("sibling_test")) - sibling == {"test_error_percent", "test_loss"}
    assert set(SIZE_BOUND) | {"hessian_smallest_eigenvalue"} == set(METRICS) - set(size_free_metrics("sibling_test"))
    with pytest.raises(InputError, match="evidence 'much'"):
        size_free_metrics("much")


def broken(zoo, tmp_path, change):
    frame = zoo[[name for name in COLUMNS if name in zoo]].head(40).astype(object)
    change(frame)
    file = tmp_path / "zoo.csv"
    frame.to_csv(file, index=False)
    return file


def test_missing_columns_are_named(zoo, tmp_path):
    file = tmp_path / "zoo.csv"
    zoo.drop(columns=["cka", "hessian_trace"]).to_csv(file, index=False)
    with pytest.raises(InputError, match="lacks the columns hessian_trace, cka"):
        read_zoo(file)
    zoo.drop(columns=["label_verdict"]).to_csv(file, index=False)
    with pytest.raises(InputError, match="label it with `mdtree zoo label`"):
        read_zoo(file)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("hessian_trace", "large", "line 9, column hessian_trace: 'large'; expected a number or an empty cell"),
        ("width", "", "line 9, column width: an empty cell"),
        ("seed", 2.0, "line 9: seed 2 of cell .* stands twice"),
        ("seed", "", "line 9, column seed: an empty cell; expected a seed in every row of a family, or in none"),
    ],
)
def test_wrong_cells_are_named(zoo, tmp_path, column, value, message):
    def change(frame):
        frame.loc[7, column] = value

    with pytest.raises(InputError, match=message):
        read_zoo(broken(zoo, tmp_path, change))


def means_over_seeds(zoo):
    """One row per cell, its measurements the means over its seeds, its labels those of its first seed."""
    rows = zoo.groupby("cell", sort=False)
    frame = rows.first().assign(**rows.mean(numeric_only=True)).reset_index()
    return frame.assign(seed=np.nan, sibling_seed=np.nan, optimizer=None)


def test_means_over_seeds_leave_the_seed_empty(zoo, tmp_path):
    means = means_over_seeds(zoo)
    write_zoo(means, tmp_path / "zoo.csv")
    again = read_zoo(tmp_path / "zoo.csv")
    assert len(again) == zoo["cell"].nunique()
    assert again["seed"].isna().all()
    assert again["optimizer"].isna().all()
    assert ",,," in (tmp_path / "zoo.csv").read_text()
    write_zoo(again, tmp_path / "twice.csv")
    assert (tmp_path / "twice.csv").read_bytes() == (tmp_path / "zoo.csv").read_bytes()


def test_a_family_of_means_may_stand_beside_one_of_networks(zoo, tmp_path):
    both = pd.concat([zoo, means_over_seeds(zoo).assign(family="means")], ignore_index=True)
    write_zoo(both, tmp_path / "zoo.csv")
    assert read_zoo(tmp_path / "zoo.csv")["seed"].isna().sum() == zoo["cell"].nunique()


def test_a_mean_stands_once(zoo, tmp_path):
    means = means_over_seeds(zoo)
    write_zoo(pd.concat([means, means.iloc[[5]]]), tmp_path / "zoo.csv")
    line, cell = len(means) + 2, means["cell"][5]
    with pytest.raises(InputError, match=f"line {line}: cell {cell}, a mean over seeds, stands twice"):
        read_zoo(tmp_path / "zoo.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a CSV table"),
        (b"\xff\xfe\x00\x01" * 50, "is not a CSV table"),
        (b"a,b\n1,2,3,4\n5\n", "lacks|not a"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    file = tmp_path / "zoo.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_zoo(file)


def test_a_missing_table(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_zoo(tmp_path / "zoo.csv")


def test_a_failed_write_loses_nothing(zoo, tmp_path):
    file = tmp_path / "zoo.csv"
    write_zoo(zoo, file)
    before = file.read_bytes()
    with pytest.raises(KeyError):
        write_zoo(pd.DataFrame({"cell": ["a"]}), file)
    assert file.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["zoo.csv"]
