"""From a cause and a recipe to the next value."""

import pytest

from mdtree.advice import advise

RECIPE = {"learning_rate": 0.2, "batch_size": 16, "width": 12, "train_size": 300}


@pytest.mark.parametrize(
    ("failure", "factor", "parameter", "to", "text"),
    [
        ("temperature_too_high", 4, "learning_rate", 0.05, "learning rate 0.2 → 0.05 (or batch size 16 → 64)"),
        ("temperature_too_low", 4, "learning_rate", 0.8, "learning rate 0.2 → 0.8 (or batch size 16 → 4)"),
        ("model_too_small", 2, "width", 24, "width 12 → 24"),
        ("too_little_data", 4, "train_size", 1200, "training samples 300 → 1200"),
    ],
)
def test_the_next_value_is_named(failure, factor, parameter, to, text):
    advice = advise(failure, factor, RECIPE)
    assert (advice.parameter, advice.to_value, advice.text) == (parameter, to, text)
    assert advice.from_value == RECIPE[parameter]


def test_without_a_recipe_the_factor_remains():
    advice = advise("temperature_too_high", 4, {})
    assert (advice.from_value, advice.to_value, advice.step) == (None, None, 0.25)
    assert advice.text == "learning rate ÷ 4 (or batch size × 4)"
    assert advise("model_too_small", 2, {}).text == "width × 2"


def test_batch_size_is_the_handle_where_the_rate_is_not_known():
    advice = advise("temperature_too_high", 4, {"batch_size": 64})
    assert (advice.parameter, advice.from_value, advice.to_value) == ("batch_size", 64, 256)


def test_a_batch_of_one_cannot_shrink():
    assert advise("temperature_too_low", 4, {"learning_rate": 0.1, "batch_size": 1}).text == "learning rate 0.1 → 0.4"


def test_an_unconverged_network_may_also_train_longer():
    assert advise("temperature_too_low", 2, RECIPE, "unconverged").text.endswith(", or train longer")


def test_healthy_needs_no_change():
    assert advise("healthy", 2, RECIPE) is None


@pytest.mark.parametrize("nonsense", [float("nan"), -1, 0, "0.1", True, None])
def test_nonsense_in_a_recipe_counts_as_not_known(nonsense):
    assert advise("temperature_too_high", 2, {"learning_rate": nonsense}).text.startswith("learning rate ÷ 2 ")
