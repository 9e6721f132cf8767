"""The zoos that come with the project: each table is what its specification plans, labelled as its errors say."""

import json
from pathlib import Path

import numpy as np
import pytest

from mdtree.build_status import build_record_file
from mdtree.grid import plan_units
from mdtree.grid_unit import UnitTask, finish_unit
from mdtree.room import label_zoo
from mdtree.spec_file import read_spec
from mdtree.zoo import LABEL_COLUMNS, RFI_COLUMNS, read_zoo
from mdtree.zoo_summary import find_optima

SAMPLES = Path(__file__).parents[2] / "zoo_samples"
FAMILIES = sorted(file.stem for file in SAMPLES.glob("*.toml"))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    name = request.param
    return name, read_spec(SAMPLES / f"{name}.toml"), read_zoo(SAMPLES / f"{name}.csv")


def test_every_kind_of_network_data_and_training_that_is_promised_is_there():
    specs = {name: read_spec(SAMPLES / f"{name}.toml") for name in FAMILIES}
    assert {name.partition("?")[0] for spec in specs.values() for name in spec.architectures} == {
        "mlp", "layernorm_mlp", "cnn", "groupnorm_cnn", "resnet18", "vit",
    }  # fmt: skip
    assert {spec.data_name.partition("?")[0] for spec in specs.values()} == {"digits", "cifar10", "idx"}
    assert {optimizer for spec in specs.values() for optimizer in spec.optimizers} == {"sgd", "adamw"}
    assert {spec.temperature_axis for spec in specs.values()} == {"learning_rate", "batch_size"}
    assert sum(len(spec.weight_decays) > 1 for spec in specs.values()) >= 2
    assert sum(spec.pretraining is not None for spec in specs.values()) == 1
    assert len({spec.protocol.digest() for spec in specs.values()}) == 1


def test_the_table_holds_what_the_specification_plans(family):
    name, spec, table = family
    assert set(table["family"]) == {name} == {spec.family}
    assert set(zip(table["cell"], table["seed"], strict=True)) == {
        (cell.name, seed) for cell in spec.cells() for seed in range(spec.seeds)
    }
    assert set(table["protocol"]) == {spec.protocol.digest()}
    assert set(table.loc[table["split"] == "held_out", "cell"]) == spec.held_out_cells()
    assert (SAMPLES / f"{name}.csv").stat().st_size < 1_500_000


def test_labels_and_rooms_follow_from_the_test_errors(family):
    _, _, table = family
    again = label_zoo(table)
    for column in LABEL_COLUMNS:
        assert (again[column] == table[column]).all(), column
    for column in RFI_COLUMNS:
        np.testing.assert_allclose(again[column], table[column], rtol=1e-5, atol=1e-5, equal_nan=True)


def test_what_stayed_finite_is_measured(family):
    _, _, table = family
    finite = table[table["diverged"] == 0]
    for column in ("train_loss", "hessian_trace", "hessian_top_eigenvalue", "gradient_norm_squared_per_parameter"):
        assert finite[column].notna().all(), column
    assert finite["connectivity_barrier_percent"].notna().mean() > 0.97


def test_temperature_has_its_best_value_inside_the_axis_and_width_and_data_help(family):
    name, _, table = family
    optimum = find_optima(table)
    assert optimum.inside >= 0.75 * optimum.rows, name
    for axis in ("width", "train_size"):
        if table[axis].nunique() > 1:
            best = table.groupby([axis, "cell"])["gain_test_error_percent"].mean().groupby(axis).min()
            assert best.iloc[-1] < best.iloc[0], (name, axis)


def test_the_build_record_counts_the_tables_networks(family):
    name, _, table = family
    record = json.loads(build_record_file(SAMPLES / f"{name}.csv").read_text())
    assert record["networks"] == len(table) == sum(record["trained"].values())
    assert record["trained"] == table["trained"].value_counts().to_dict()
    assert record["diverged"] == table["diverged"].sum()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "unit_name"), [("digits_batch", "w7-n250-e0-b25"), ("cifar_finetuned", "w2-n50-e0")])
def test_a_unit_trained_again_gives_its_rows(name, unit_name, mdtree_data):
    """The bytes are equal on one kind of machine; another one rounds differently, not more."""
    spec, table = read_spec(SAMPLES / f"{name}.toml"), read_zoo(SAMPLES / f"{name}.csv")
    (unit,) = [unit for unit in plan_units(spec) if unit.name == unit_name]
    rows = finish_unit(UnitTask(unit)).rows
    stored = table[table["cell"].isin([cell.name for cell in unit.cells])].reset_index(drop=True)
    assert rows["cell"].tolist() == stored["cell"].tolist()
    for column in ("train_loss", "test_loss", "hessian_trace", "hessian_top_eigenvalue", "log_weight_growth"):
        np.testing.assert_allclose(rows[column].astype(float), stored[column], rtol=0.01, err_msg=column)
    errors = rows["gain_test_error_percent"].astype(float)
    np.testing.assert_allclose(errors, stored["gain_test_error_percent"], atol=0.5)
