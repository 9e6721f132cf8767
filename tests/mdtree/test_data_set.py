"""Inputs with names: checked entry by entry, cut and hashed as one, measured but not trained on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from people_networks import CLASSES, TOKENS, SequenceClassifier

from landscape import Execution, Protocol
from mdtree.datasets.data_set import DataSet, Samples, cut_test_set, make_data_set
from mdtree.datasets.subset import Stored, choice_of, choose
from mdtree.errors import InputError
from mdtree.measurement_key import MeasurementInput, measurement_key
from mdtree.prepare import classification_data
from mdtree.specification import parse

IDS = np.arange(24, dtype=np.int32).reshape(6, 4)
LABELS = [0, 1, 2, 0, 1, 0]


def made(x: Any, y: Any = LABELS, **rest: Any) -> DataSet:
    return make_data_set(Samples(x, y, **rest), "texts", "texts?seed=1")


def refusal(x: Any, **rest: Any) -> str:
    with pytest.raises(InputError) as caught:
        made(x, **rest)
    return str(caught.value)


def test_each_input_is_checked_by_its_kind() -> None:
    """Integers are tokens, bools stay the masks they are, floats become float32; a row of numbers is an input too."""
    data = made(
        {
            "input_ids": IDS,
            "token_type_ids": IDS.astype(np.uint8) % 2,
            "mask": IDS > 3,
            "pixels": (IDS / 7).reshape(6, 1, 2, 2),
            "length": torch.arange(6, dtype=torch.int16),
        }
    )
    kinds = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in data.x_train.items()}
    assert kinds == {
        "input_ids": (torch.int64, (6, 4)),
        "token_type_ids": (torch.int64, (6, 4)),
        "mask": (torch.bool, (6, 4)),
        "pixels": (torch.float32, (6, 1, 2, 2)),
        "length": (torch.int64, (6,)),
    }
    assert data.x_train["input_ids"].tolist() == IDS.tolist()
    assert (data.normalisation, data.notes, data.num_classes) == ("as given", (), 3)


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (IDS / 7, (4,)),
        ({"mask": IDS[:, :2] > 3, "input_ids": IDS}, (4,)),
        ({"input_ids": IDS, "pixels": np.ones((6, 3, 2, 2))}, (3, 2, 2)),
        ({"words": IDS[:, :3], "mask": IDS > 3}, (3,)),
    ],
)
def test_the_shape_of_one_input(x: Any, shape: tuple[int, ...]) -> None:
    """Of several: the first floating one, else input_ids, else the first."""
    assert made(x).input_shape == shape


def test_labels_are_counted_by_class() -> None:
    assert made(IDS).class_counts == (3, 2, 1)
    assert made(IDS, num_classes=5).class_counts == (3, 2, 1, 0, 0)
    noted = make_data_set(Samples(IDS, LABELS), "d", "d", normalisation="pixels / 255", notes=("Two rows were empty.",))
    assert (noted.normalisation, noted.notes) == ("pixels / 255", ("Two rows were empty.",))


def test_code_that_trains_gets_one_tensor_or_a_sentence() -> None:
    plain = made(IDS, x_test=IDS[:2], y_test=LABELS[:2])
    assert plain.train_tensor is plain.x_train
    assert plain.test_tensor is plain.x_test
    assert made(IDS).test_tensor is None
    named = made({"input_ids": IDS, "mask": IDS > 3})
    with pytest.raises(InputError) as caught:
        _ = named.train_tensor
    assert str(caught.value) == (
        "texts?seed=1 has inputs by name (input_ids, mask): they are measured, not trained on; "
        "expected one tensor of inputs"
    )


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ({}, "x_train of texts is an empty dict; expected inputs by the names that the network's forward takes"),
        ({"input ids": IDS}, "x_train of texts has an input named 'input ids'; expected names that"),
        ({0: IDS}, "x_train of texts has an input named 0; expected names that"),
        ({"a\x1b[2J": IDS}, r"x_train of texts has an input named 'a\x1b[2J'; expected names"),
        (
            {"a": IDS, "b": IDS[:5]},
            "x_train of texts has samples: 6 of a, 5 of b; expected equally many of every input",
        ),
        ({"a": IDS[:5], "b": IDS[:5]}, "x_train of texts has 5 samples and y_train 6; expected as many"),
        (
            {"a": np.where(IDS == 5, np.nan, IDS)},
            "a in x_train of texts holds NaN or infinite values in 1 of 6 samples",
        ),
        (
            {"a": IDS * 1j},
            "a in x_train of texts is complex128; expected floats scaled as in training, or int64 tokens",
        ),
        ({"a": IDS.astype(np.uint8).reshape(6, 2, 2)}, "a in x_train of texts is uint8; expected floats scaled as in"),
        ({"a": IDS.astype(str)}, "a in x_train of texts holds <U11; expected an array of numbers"),
        ({"a": 3}, "a in x_train of texts has shape (); expected (samples, ...) with at least one sample"),
        ({"a": IDS[:, :0]}, "a in x_train of texts has shape (6, 0); expected (samples, ...)"),
    ],
)
def test_refused_inputs(x: Any, message: str) -> None:
    assert refusal(x).startswith(message)


def test_train_and_test_take_the_same_inputs() -> None:
    inputs = {"input_ids": IDS, "mask": IDS > 3}
    given = {"y_test": LABELS}
    assert made(inputs, x_test=dict(reversed(inputs.items())), **given).x_test is not None
    for other in (IDS, {"input_ids": IDS}, {"input_ids": IDS, "mask": IDS}, {"input_ids": IDS[:, :3], "mask": IDS > 3}):
        assert "; expected the same shape and type of input" in refusal(inputs, x_test=other, **given)
    assert refusal(inputs, x_test=IDS, **given).startswith(
        "x_test of texts holds int64 of shape (4,) and x_train input_ids: int64 of shape (4,), mask: bool of shape (4,)"
    )


def test_halves_of_the_test_set_cut_every_input() -> None:
    inputs = {"input_ids": IDS, "mask": IDS > 3}
    data = made(inputs, x_test={name: x[:5] for name, x in inputs.items()}, y_test=LABELS[:5])
    first, second = cut_test_set(data)
    assert [len(part.y_test) for part in (first, second)] == [2, 3]
    for name, whole in data.x_test.items():
        assert torch.equal(torch.cat([first.x_test[name], second.x_test[name]]), whole)
        assert len(first.x_test[name]) == 2
    assert first.x_train is data.x_train


def test_a_part_of_stored_rows_is_decoded_into_several_inputs() -> None:
    """`decode` sees the numbers of the chosen rows alone, and may give several inputs."""

    def decode(rows: np.ndarray) -> dict[str, np.ndarray]:
        return {"input_ids": IDS[rows], "row": rows}

    spec = parse("texts?train=4&seed=3&test=all")
    options = {"train": 4, "label_noise": 0.0, "seed": 3, "test": "all", "only": ""}
    stored = Stored(np.arange(5), np.array([0, 1, 0, 1, 0]), np.arange(5, 6), np.array([1]), "texts", None, decode)
    data = choose(dataclasses.replace(stored, notes=("A note.",)), choice_of("texts", options), spec)
    assert data.x_train["input_ids"].tolist() == IDS[data.x_train["row"].numpy()].tolist()
    assert data.y_train.tolist() == (data.x_train["row"] % 2).tolist()
    assert (data.class_counts, data.x_test["row"].tolist(), data.notes) == ((2, 2), [5], ("A note.",))


def test_named_inputs_reach_the_measurement_and_its_key() -> None:
    data = made({"input_ids": IDS, "mask": IDS > 3}, x_test={"input_ids": IDS, "mask": IDS > 3}, y_test=LABELS)
    given = classification_data(data)
    assert given.train.inputs is data.x_train
    assert given.test is not None
    assert len(given.test) == 6

    def key(inputs: Any) -> str:
        one = made(inputs, num_classes=CLASSES)
        model = SequenceClassifier()
        model.load_state_dict(state)
        asked = MeasurementInput(
            [model], classification_data(one), Protocol(), Execution(), SequenceClassifier, None, "user:network"
        )
        return measurement_key(asked)

    state = SequenceClassifier().state_dict()
    ids, mask = torch.from_numpy(IDS % TOKENS), torch.ones(6, 4, dtype=torch.int64)
    shorter = mask.clone()
    shorter[5, 3] = 0
    first = key({"input_ids": ids, "attention_mask": mask})
    assert first == key({"input_ids": ids.clone(), "attention_mask": mask.clone()})
    assert first != key({"input_ids": ids, "attention_mask": shorter})
    assert first != key({"input_ids": ids.flip(0), "attention_mask": mask})
