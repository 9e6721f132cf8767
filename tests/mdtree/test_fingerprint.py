"""Networks known again by the names and shapes of their weights alone."""

from __future__ import annotations

import json
import time
from importlib import resources

import pytest
import torch
from torch import Tensor, nn

from mdtree.models import build_model
from mdtree.networks.fingerprint import digest, names_digest, recognise

SPECIFICATIONS = [
    ("mlp?width=7&depth=3&inputs=12&classes=5", (12,)),
    ("layernorm_mlp?width=6&depth=1&inputs=4&classes=2", (4,)),
    ("cnn?width=4&classes=3", (1, 8, 8)),
    ("cnn?width=4&classes=3", (3, 9, 14)),
    ("groupnorm_cnn?width=8&classes=10", (3, 12, 12)),
    ("resnet18?width=4&channels=3&classes=10", (3, 32, 32)),
    ("vit?width=8&depth=2&patch=4&classes=10", (3, 32, 32)),
    ("vit?width=8&depth=3&patch=1&classes=10", (1, 8, 8)),
    ("gru?width=5&depth=2&features=3&classes=4", (7, 3)),
    ("gru?width=5&depth=1&features=6&classes=4&vocabulary=50", (7,)),
]


@pytest.mark.parametrize(("spec", "shape"), SPECIFICATIONS)
def test_what_is_recognised_builds_the_same_network(spec: str, shape: tuple[int, ...]) -> None:
    model = build_model(spec, input_shape=shape)
    found = recognise(model.state_dict())
    assert found is not None
    assert (found.spec, found.others) == (spec, ())
    build_model(found.spec, input_shape=shape).load_state_dict(model.state_dict())


def test_a_network_is_recognised_under_a_prefix_and_beside_other_tensors() -> None:
    state = build_model("cnn?width=4&classes=3", input_shape=(1, 8, 8)).state_dict()
    file = {"loss.weight": torch.ones(3), **{f"model.{name}": value for name, value in state.items()}}
    found = recognise(file)
    assert found is not None
    assert found.spec == "cnn?width=4&classes=3"


@pytest.mark.parametrize("change", ["renamed", "another shape", "one more", "one less", "scalar"])
def test_anything_that_differs_is_not_recognised(change: str) -> None:
    state = dict(build_model("cnn?width=4&classes=3", input_shape=(1, 8, 8)).state_dict())
    bias = state.pop("conv2.bias")
    changed: dict[str, dict[str, Tensor]] = {
        "renamed": {"conv2.beta": bias},
        "another shape": {"conv2.bias": torch.ones(5)},
        "one more": {"conv2.bias": bias, "conv3.bias": bias},
        "one less": {},
        "scalar": {"conv2.bias": torch.ones(())},
    }
    assert recognise(state | changed[change]) is None


def test_a_small_network_of_anybodys_is_not_recognised() -> None:
    assert recognise(nn.Sequential(nn.Linear(3, 2)).state_dict()) is None
    assert recognise({}) is None
    assert recognise({"output.weight": torch.ones(())}) is None


def alexnet(classes: int, narrower: int = 0) -> dict[str, Tensor]:
    """The tensors of torchvision's AlexNet, without their values."""
    convolutions = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    linear = {1: (4096, 9216), 4: (4096, 4096), 6: (classes, 4096)}
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (outputs, inputs, side) in convolutions.items():
        shapes[f"features.{number}.weight"] = (outputs - narrower, inputs, side, side)
        shapes[f"features.{number}.bias"] = (outputs - narrower,)
    for number, (outputs, inputs) in linear.items():
        shapes[f"classifier.{number}.weight"] = (outputs, inputs)
        shapes[f"classifier.{number}.bias"] = (outputs,)
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def test_a_network_of_torchvision_is_recognised_whatever_its_number_of_classes() -> None:
    for classes in (1000, 7):
        found = recognise(alexnet(classes))
        assert found is not None
        assert found.spec == f"torchvision:alexnet?num_classes={classes}"
    assert recognise(alexnet(7, narrower=1)) is None
    assert recognise(alexnet(7) | {"classifier.6.bias": torch.ones(8)}) is None


def test_the_table_tells_all_networks_of_torchvision_apart() -> None:
    text = resources.files("mdtree").joinpath("data_files", "networks.json").read_text()
    rows = [row for group in json.loads(text)["networks"].values() for row in group]
    of_torchvision = [(spec, shapes) for spec, _, shapes in rows if spec.startswith("torchvision:")]
    assert len(of_torchvision) == 82  # 80 networks, two of them with and without their auxiliary classifiers
    assert len({shapes for _, shapes in of_torchvision}) == 82
    assert len({spec for spec, _, _ in rows}) == len(rows)


def test_digests_know_no_order_and_leave_out_what_they_are_told() -> None:
    shapes = {"a": (3, 4), "b": (3,)}
    assert digest(shapes) == digest({"b": (3,), "a": (3, 4)})
    assert digest(shapes) != digest({"a": (4, 3), "b": (3,)})
    assert digest(shapes, ["a"]) == digest({"a": (9, 4), "b": (3,)}, ["a"])
    assert digest(shapes, ["a"]) != digest({"a": (9, 4), "b": (4,)}, ["a"])
    assert names_digest(["a", "b"]) == names_digest(["b", "a"]) != names_digest(["a"])


def test_absurd_shapes_take_neither_memory_nor_time() -> None:
    tensor = torch.ones(1)
    many = {f"hidden{number}.weight": tensor.expand(2, 2) for number in range(1, 20_000)}
    wide = {"hidden1.weight": torch.empty(2**33, 2**20, device="meta"), "hidden1.bias": tensor,
            "output.weight": torch.empty(2, 2**33, device="meta"), "output.bias": tensor}  # fmt: skip
    start = time.perf_counter()
    assert recognise(many | {"output.weight": tensor.expand(2, 2), "output.bias": tensor}) is None
    assert recognise(wide) is None
    assert time.perf_counter() - start < 5
