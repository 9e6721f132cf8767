"""The networks outside the reference zoos: their data, their factories, and the tables made of them."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from landscape import Protocol
from mdtree.build_status import build_record_file
from mdtree.data import load_data
from mdtree.datasets.parquet_data import CIFAR10_MEAN, CIFAR10_STANDARD_DEVIATION
from mdtree.grid import plan_units
from mdtree.grid_spec import Budget, ZooSpec
from mdtree.grid_unit import UnitTask, finish_unit, last_linear
from mdtree.models import build_model
from mdtree.room import label_zoo
from mdtree.spec_file import read_spec
from mdtree.zoo import LABEL_COLUMNS, METRICS, UNLABELLED, read_zoo
from mdtree.zoo_summary import find_optima

OUTSIDE = Path(__file__).parent.parent / "benchmarks" / "outside"
FAMILIES = ("names_gru", "tabular_transformer", "finetuned_cnn")


def spec_of(family: str) -> ZooSpec:
    return read_spec(OUTSIDE / f"{family}.toml")


def module(name: str) -> Any:
    spec = spec_from_file_location(name, OUTSIDE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_lists_of_names_become_kinds_without_a_name_in_both(tmp_path: Path) -> None:
    """Al is too short; Lee and James are first names, whatever else they are."""
    lists = {"female.first": "MARY AL LEE", "male.first": "JAMES", "all.last": "SMITH JAMES LEE OLSEN"}
    for kind, names in lists.items():
        lines = [f"{name:<14} 1.0 {rank}.0 {rank}\n" for rank, name in enumerate(names.split(), 1)]
        (tmp_path / f"dist.{kind}").write_text("".join(lines))
    kinds = module("census_names").kinds_of_names(tmp_path)
    assert kinds == {"first": ["mary", "lee"], "last": ["smith", "olsen"]}


def test_a_name_ends_at_the_last_token() -> None:
    letters = module("name_letters")
    assert letters.tokens("zoe") == [0] * 8 + [26, 15, 5]
    first, last = letters.read_names()
    assert first[:2] == ["mary", "patricia"]
    assert last[:2] == ["smith", "jones"]
    assert len(first) == len(last) == len(set(first) - set(last)) == 3000


def test_names_to_train_on_and_to_test_on_are_different_ones() -> None:
    data = load_data("name_letters:load?train=2000&test=all", OUTSIDE)
    assert data.x_test is not None
    assert data.y_test is not None
    assert (data.x_train.dtype, data.input_shape, data.num_classes) == (torch.int64, (11,), 2)
    assert len(data.x_test) == 3600
    assert data.y_train.bincount().tolist() == [1000, 1000]
    assert not {*map(tuple, data.x_train.tolist())} & {*map(tuple, data.x_test.tolist())}
    mary = torch.tensor([0] * 7 + [13, 1, 18, 25])
    names, kinds = torch.cat([data.x_train, data.x_test]), torch.cat([data.y_train, data.y_test])
    assert len(names) == 5600  # 400 of the pool are not taken
    assert set(kinds[(names == mary).all(dim=1)].tolist()) <= {0}


def test_columns_are_scaled_over_the_pool_alone() -> None:
    data = load_data("tumour_columns:load?train=209&test=all", OUTSIDE)
    assert data.x_test is not None
    torch.testing.assert_close(data.x_train.mean(dim=0), torch.zeros(30), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.x_train.std(dim=0, correction=0), torch.ones(30), atol=1e-4, rtol=0)
    assert data.x_test.shape == (360, 30)
    assert data.x_test.mean(dim=0).abs().max() > 0.01


def test_a_tenth_of_the_labels_of_the_columns_is_wrong() -> None:
    clean, noisy = (load_data(f"tumour_columns:load?train=200&label_noise={share}", OUTSIDE) for share in (0, 0.1))
    assert torch.equal(clean.x_train, noisy.x_train)
    assert 10 <= int((clean.y_train != noisy.y_train).sum()) <= 30


def test_photographs_are_the_grey_middle_at_half_the_size(mdtree_data: Path) -> None:
    grey = load_data("grey_images:photographs?train=20", OUTSIDE)
    colour = load_data("cifar10?train=20")
    mean, deviation = np.array(CIFAR10_MEAN), np.array(CIFAR10_STANDARD_DEVIATION)
    assert grey.input_shape == load_data("idx?size=14&train=10").input_shape == (1, 14, 14)
    assert torch.equal(grey.y_train, colour.y_train)
    pixels = ((colour.x_train[7].permute(1, 2, 0).numpy() * deviation + mean) * 255).round().astype(np.uint8)
    middle = Image.fromarray(pixels).convert("L").crop((2, 2, 30, 30)).resize((14, 14), Image.Resampling.BOX)
    np.testing.assert_allclose(grey.x_train[7, 0].numpy() * 255, np.asarray(middle), atol=1.5)


@pytest.mark.parametrize(
    ("factory", "inputs", "classes", "parameters"),
    [
        ("tumour_columns:transformer?width=4", torch.randn(3, 30), 2, 2 * 30 * 4 + 80 + 76 + 16 + 8 + 10),
        ("grey_images:batch_norm_cnn?width=4", torch.randn(3, 1, 14, 14), 10, 36 + 8 + 288 + 16 + 90),
    ],
)
def test_a_factory_builds_what_its_width_says(
    factory: str, inputs: torch.Tensor, classes: int, parameters: int
) -> None:
    """Transformer layer: attention (in 60, out 20), hidden layer (40 and 36), two norms."""
    network = build_model(factory, directory=OUTSIDE, seed=0)
    assert network(inputs).shape == (3, classes)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert isinstance(network.get_submodule(last_linear(network)), nn.Linear)


def test_columns_are_told_apart() -> None:
    """Without its scale and shift a token would not say which column it is of."""
    network = build_model("tumour_columns:transformer?width=8", directory=OUTSIDE, seed=0).eval()
    row = torch.randn(1, 30)
    assert not torch.allclose(network(row), network(row.flip(1)), atol=1e-4)


def shortened(spec: ZooSpec, rate: float) -> ZooSpec:
    """One cell of the middle width, trained and measured briefly."""
    tuned = spec.pretraining and replace(
        spec.pretraining, data_spec="grey_images:photographs?train=100", steps=20, batch_size=16
    )
    return replace(
        spec,
        pretraining=tuned,
        train_sizes=spec.train_sizes[:1],
        widths=spec.widths[1:2],
        learning_rates=(rate,),
        budgets=(Budget(steps=60),),
        protocol=Protocol(curve_steps=10, curve_points=5, linear_points=3),
    )


@pytest.mark.parametrize(("family", "rate"), [*zip(FAMILIES, (0.05, 0.02, 0.3), strict=True)])
def test_a_cell_is_trained_and_measured_like_any_other(
    family: str, rate: float, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if family == "finetuned_cnn":
        request.getfixturevalue("mdtree_data")
    monkeypatch.chdir(OUTSIDE)
    (unit,) = plan_units(shortened(spec_of(family), rate))
    rows = finish_unit(UnitTask(unit)).rows
    assert unit.way == "loop"
    assert len(rows) == 3
    assert not rows["diverged"].any()
    assert rows["train_error_over_chance"].astype(float).max() < 0.8
    # tokens cannot be mixed
    known = [name for name in METRICS if not (family == "names_gru" and name == "cka_mixup")]
    assert np.isfinite(rows[known].astype(float)).all(axis=None)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_is_what_its_specification_plans(family: str) -> None:
    spec, table = spec_of(family), read_zoo(OUTSIDE / f"{family}.csv")
    assert set(table["family"]) == {family} == {spec.family}
    assert set(zip(table["cell"], table["seed"], strict=True)) == {
        (cell.name, seed) for cell in spec.cells() for seed in range(spec.seeds)
    }
    assert set(table["protocol"]) == {spec.protocol.digest()} == {Protocol().digest()}
    again = label_zoo(table)
    for column in LABEL_COLUMNS:
        assert (again[column] == table[column]).all(), column
    record = json.loads(build_record_file(OUTSIDE / f"{family}.csv").read_text())
    assert record["trained"] == {"loop": len(table)}
    assert record["diverged"] == table["diverged"].sum()


@pytest.mark.parametrize("family", FAMILIES)
def test_at_least_thirty_networks_of_each_kind_are_measured_and_have_a_cause(family: str) -> None:
    table = read_zoo(OUTSIDE / f"{family}.csv")
    measured = table[table["diverged"] == 0]
    assert measured["hessian_trace"].notna().all()
    assert measured["connectivity_barrier_percent"].notna().all()
    for question in ("temperature", "verdict"):
        assert (~measured[f"label_{question}"].isin(UNLABELLED)).sum() >= 30, question
    optimum = find_optima(table)
    assert optimum.inside >= 0.75 * optimum.rows
