"""What a transfer compares: the diagnoser, its temperature where readings agree, and what each baseline sees."""

import numpy as np
import pandas as pd
import pytest
from composed_diagnoser import ENOUGH, SICK, composed_diagnoser
from transfer_zoos import family, quick_fit

from mdtree.errors import InputError
from mdtree.evaluation import answers
from mdtree.transfer_methods import AGREEING, BASELINES, DEFAULT, methods_with
from mdtree.zoo import QUESTIONS

BY_NAME = {method.name: method for method in BASELINES}


def right(predicted, rows, question="temperature"):
    clear = ~rows[f"label_{question}"].isin(["ambiguous", "censored"])
    return np.mean(predicted[clear] == rows.loc[clear, f"label_{question}"].to_numpy(dtype=str))


@pytest.fixture(scope="module")
def fitted():
    return family("a")


@pytest.fixture(scope="module")
def asked():
    return family("b", seed=1)


def test_the_default_answers_as_its_diagnoser_does(fitted, asked):
    default, agreeing, *others = methods_with(quick_fit)
    assert (default.name, default.sees_evidence, default.upon) == ("default", True, None)
    assert agreeing.name == "default_where_readings_agree"
    assert tuple(others) == BASELINES
    assert all(method.upon is None and method.questions == QUESTIONS for method in (default, *others))
    answering = default.fit(fitted.assign(split="fit"))
    diagnoser = quick_fit(fitted.assign(split="fit"), "default")
    for question, evidence in (("temperature", "alone"), ("verdict", "sibling_test")):
        assert np.array_equal(answering(asked, question, evidence), answers(diagnoser, asked, question, evidence))


def test_the_default_withholds_a_temperature_where_its_readings_disagree():
    """It takes the diagnoser that the default fitted, and answers for one question alone."""
    default, agreeing = methods_with(lambda rows, name: composed_diagnoser())[:2]
    assert (agreeing.name, agreeing.upon, agreeing.questions) == (AGREEING, DEFAULT, ("temperature",))
    assert agreeing.sees_evidence
    rows = pd.DataFrame({**SICK, **ENOUGH, "log_weight_growth": [3.0, 3.0, 0.0, 0.0, 3.0]})
    rows["idle_feature_share"] = [0.5, 0.5, 0.0, 0.5, 0.0]
    rows["weight_noise_loss_over_chance"] = [0.5, 0.0, 0.0, 0.0, 0.0]
    rows["label_temperature"] = "temperature_too_low"
    fitted = default.fit(rows)
    hot, cold = "temperature_too_high", "temperature_too_low"
    # two of three readings lean by 0.07, one of three by -0.12: of neither side sure
    assert fitted(rows, "temperature", "alone").tolist() == [hot, hot, cold, cold, hot]
    said = agreeing.fit(fitted)(rows, "temperature", "alone")
    assert said.tolist() == [hot, "undetermined", cold, "undetermined", "undetermined"]


def test_a_diagnoser_without_readings_withholds_nothing(fitted, asked):
    default, agreeing = methods_with(quick_fit)[:2]
    answering = default.fit(fitted.assign(split="fit"))
    said = answering(asked, "temperature", "alone")
    assert set(said) == {"temperature_too_low", "temperature_too_high"}
    assert np.array_equal(agreeing.fit(answering)(asked, "temperature", "alone"), said)


def test_only_a_diagnoser_has_readings(fitted):
    agreeing = methods_with(quick_fit)[1]
    with pytest.raises(InputError, match="a method without a diagnoser has no readings to compare"):
        agreeing.fit(BY_NAME["majority"].fit(fitted))


def test_the_majority_is_the_most_frequent_clear_answer(fitted, asked):
    labels = fitted["label_data"][~fitted["label_data"].isin(["ambiguous", "censored"])]
    answer = BY_NAME["majority"].fit(fitted)(asked, "data", "alone")
    assert set(answer) == {labels.value_counts().idxmax()}


def test_settings_know_the_learning_rate_and_parameters_do_not(fitted, asked):
    assert right(BY_NAME["hyperparameters"].fit(fitted)(asked, "temperature", "alone"), asked) == 1.0
    assert right(BY_NAME["parameter_count"].fit(fitted)(asked, "temperature", "alone"), asked) < 0.7


def test_settings_are_width_data_and_rate_alone(fitted, asked):
    hidden = {"batch_size": "batch_size", "parameter_count": "parameter_count", "label_noise": "label_noise"}
    shuffled = asked.assign(**{name: np.arange(len(asked), dtype=float) for name in hidden})
    answering = BY_NAME["hyperparameters"].fit(fitted)
    for question in ("temperature", "model_size", "verdict"):
        assert np.array_equal(answering(asked, question, "alone"), answering(shuffled, question, "alone"))


def test_settings_that_no_row_tells_are_left_out(fitted, asked):
    without = fitted.assign(learning_rate=np.nan)
    assert right(BY_NAME["hyperparameters"].fit(without)(asked, "temperature", "alone"), asked) == 1.0
    with pytest.raises(InputError, match="no row to fit on has parameter_count"):
        BY_NAME["parameter_count"].fit(fitted.assign(parameter_count=np.nan))(asked, "temperature", "alone")


def test_validation_does_without_test_metrics_where_none_were_measured(fitted, asked):
    frame = fitted.assign(train_error_percent=np.where(fitted["temperature"] < 0.05, 80.0, 10.0))
    new = asked.assign(train_error_percent=np.where(asked["temperature"] < 0.05, 80.0, 10.0))
    frame, new = (rows.assign(test_loss=np.nan, test_error_percent=np.nan) for rows in (frame, new))
    assert right(BY_NAME["validation"].fit(frame)(new, "temperature", "alone"), new) == 1.0


def test_no_clear_answer_to_fit_on_is_said(fitted, asked):
    censored = fitted.assign(label_model_size="censored")
    for method in BASELINES:
        with pytest.raises(InputError, match="no row to fit on has a clear answer to model_size"):
            method.fit(censored)(asked, "model_size", "alone")


def test_the_default_says_which_question_it_was_not_fitted_for(fitted, asked):
    answering = methods_with(quick_fit)[0].fit(fitted.assign(label_data="censored"))
    with pytest.raises(InputError, match="nothing to fit its tree on"):
        answering(asked, "data", "alone")
