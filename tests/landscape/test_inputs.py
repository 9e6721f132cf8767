"""Inputs of every form are called, counted, cut and joined alike."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch

from landscape import LandscapeError
from landscape.inputs import (
    arguments,
    check_lengths,
    concatenate,
    each_tensor,
    inputs_and_targets,
    sample_count,
    shape_text,
    take,
    tensors,
)

x, y = torch.arange(12.0).reshape(4, 3), torch.arange(4)
Named = namedtuple("Named", ["first", "second"])
FORMS = [x, (x, y), [x, y], {"a": x, "b": y}, (x, {"deep": y}), Named(x, y)]


def test_how_a_model_is_called() -> None:
    assert arguments(x) == ((x,), {})
    assert arguments((x, 3)) == ((x, 3), {})
    assert arguments({"a": x, "flag": True}) == ((), {"a": x, "flag": True})


@pytest.mark.parametrize("form", FORMS, ids=lambda form: type(form).__name__)
def test_parts_put_together_are_the_whole(form: object) -> None:
    parts = [take(form, slice(0, 1)), take(form, torch.tensor([1, 2, 3]))]

    assert [sample_count(part) for part in parts] == [1, 3]
    assert type(parts[0]) is type(form)
    if not isinstance(form, Named):
        whole = concatenate(parts)
        assert all(torch.equal(a, b) for a, b in zip(tensors(whole), tensors(form), strict=True))


def test_what_is_no_tensor_goes_along() -> None:
    assert take((x, "text", None), slice(2))[1:] == ("text", None)
    assert each_tensor(lambda t: t.shape[0], {"a": x, "n": 7}) == {"a": 4, "n": 7}
    assert concatenate([{"a": x, "n": 7}, {"a": x, "n": 7}])["n"] == 7


def test_lengths_must_agree() -> None:
    check_lengths((x, y))
    with pytest.raises(LandscapeError, match="samples in their first dimension"):
        check_lengths((x, y[:3]))
    with pytest.raises(LandscapeError, match="samples in their first dimension"):
        check_lengths("no tensor")
    with pytest.raises(LandscapeError, match="without a tensor"):
        sample_count(["no", "tensor"])
    assert shape_text((x, y)) == "(4, 3), (4,)"


def test_batches_of_loaders() -> None:
    assert inputs_and_targets((x, y)) == (x, y)
    inputs, targets = inputs_and_targets({"tokens": x, "labels": y, "mask": x})
    assert list(inputs) == ["tokens", "mask"]
    assert targets is y
    with pytest.raises(LandscapeError, match="under 'labels'"):
        inputs_and_targets({"tokens": x})
    with pytest.raises(LandscapeError, match="a pair"):
        inputs_and_targets((x, y, y))
