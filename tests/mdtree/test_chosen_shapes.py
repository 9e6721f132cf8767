"""The shapes that come with the package: readable, complete, and read back as they were written."""

import pytest

from mdtree.chosen_shapes import chosen_shapes, shape_from_dict, shape_to_dict
from mdtree.errors import InputError
from mdtree.shapes import Shape, ShapeSplit
from mdtree.zoo import EVIDENCE, FAILURES, evidence_metrics

NAMES = ("temperature", "model_size", "data", *(f"verdict_{evidence}" for evidence in EVIDENCE))


@pytest.mark.parametrize("name", NAMES)
def test_every_shape_can_be_read_by_a_person(name):
    shape = chosen_shapes()[name]
    assert shape.depth() <= 4
    assert len(shape.splits()) + 1 <= 8
    assert all(split.prior is not None for split in shape.splits())


@pytest.mark.parametrize("name", NAMES)
def test_a_shape_asks_only_for_what_its_evidence_holds(name):
    evidence = name.removeprefix("verdict_") if name.startswith("verdict_") else "sibling"
    assert set(chosen_shapes()[name].features()) <= set(evidence_metrics(evidence))


def test_answers_are_those_of_the_question():
    assert set(chosen_shapes()["temperature"].labels()) == {"temperature_too_high", "temperature_too_low"}
    assert set(chosen_shapes()["model_size"].labels()) == {"model_too_small", "temperature"}
    assert set(chosen_shapes()["data"].labels()) == {"too_little_data", "temperature"}
    assert all(set(chosen_shapes()[f"verdict_{e}"].labels()) <= set(FAILURES) for e in EVIDENCE)


@pytest.mark.parametrize("name", NAMES)
def test_a_shape_reads_back_as_it_was_written(name):
    shape = chosen_shapes()[name]
    assert shape_from_dict(name, shape_to_dict(shape.root)) == shape


@pytest.mark.parametrize("broken", [{"feature": "cka"}, {"threshold": "t0", "prior": 3}, "temperature_too_low", 7])
def test_what_is_no_shape_is_refused(broken):
    with pytest.raises(InputError, match="shape s"):
        shape_from_dict("s", broken)


def test_a_shape_without_priors_is_not_written():
    with pytest.raises(InputError, match="no prior"):
        shape_to_dict(Shape("s", ShapeSplit("t0", "cka", "a", "b", start=0.5)).root)
