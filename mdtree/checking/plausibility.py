"""The sanity gate before anything costly: does the network answer on these data as one that was trained on them?

A wrong normalisation, another order of the labels or the wrong part of the data gives numbers that look like any
others, and a verdict on a network that does not exist. So the loss and the error on a part of the training samples are
held against what the training recorded, or, where nothing was recorded, against chance.

Of the 13,959 networks of the reference zoos, those that failed to train among them, none has a training loss above
1.02 times that of the best constant answer: training lowers it from there. Wrong data raise it, since the network is
sure of wrong answers. 11.0 % have a training accuracy that is chance's: where nothing was recorded and the data are
named by hand, these are stopped with those whose data are wrong, and ``--data-checked`` lets them through.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from landscape import ClassificationData, Execution, Objective, Samples, Task
from landscape.failures import out_of_memory
from landscape.network import Network, computing
from mdtree.checking.data_hints import Answers, decisive_hint, mending_hints
from mdtree.checking.recorded_scores import (
    LOSS_OVER_CHANCE,
    Chance,
    comparisons,
    exchanged_parts,
    score,
    usable_scores,
)
from mdtree.errors import InputError
from mdtree.recipes.recipe import Recorded

MOST_SAMPLES = 1024
"""Training samples, and test samples, that the gate looks at."""

SEED = 0
"""Of the choice of these samples."""

CHANCE_POINTS = 2.0
CHANCE_ERRORS = 2.0
"""An accuracy is chance's unless it is above that of the best constant answer by so much, whichever is more."""

LOSS_ERRORS = 3.0
"""By so many standard errors a loss must be above chance's."""

LOSS_OF_WRONG = 10.0
"""Mean loss in nats of the wrongly answered training samples beyond which other normalisations are tried: training
leaves a few, inputs on another scale hundreds, even where the accuracy survives them."""

QUESTION = "wrong normalisation, label order or split?"
MEND = "mend the data, or add --data-checked if they are right and the network is as bad as that"


@dataclass(frozen=True)
class Plausibility:
    """What the gate measured, in evaluation mode, and what it asks.

    Parameters
    ----------
    train_error_percent : float
        On `samples` training samples.
    standard_error : float
        Of it, in points.
    chance_error_percent : float
        Of the best constant answer on the same samples.
    loss, chance_loss : float
        Cross-entropy in nats, and that of the best constant answer.
    samples : int
        Training samples looked at.
    question : str or None
        Why the data can hardly be those that the network was trained on; None where nothing speaks against them.
    hints : tuple of str
        What would mend it, by trial: "divided by 255 its accuracy would be 93 %, as given 11 %".
    test_error_percent : float or None
        On up to as many test samples, where there are any and a test score was recorded.
    """

    train_error_percent: float
    standard_error: float
    chance_error_percent: float
    loss: float
    chance_loss: float
    samples: int
    question: str | None = None
    hints: tuple[str, ...] = ()
    test_error_percent: float | None = None


def check_plausible(
    model: nn.Module,
    data: ClassificationData,
    recorded: Mapping[str, Recorded],
    *,
    own_words: bool,
    execution: Execution | None = None,
) -> Plausibility:
    """Refuse data on which the network answers as it never did in training.

    Parameters
    ----------
    model, data, recorded, own_words, execution
        As in `plausibility`.

    Returns
    -------
    Plausibility
        Its `question` is None.

    Raises
    ------
    InputError
        The question, with the numbers, what would mend it as far as a trial shows it, and ``--data-checked``, which
        goes on all the same.
    LandscapeError
        As in `plausibility`.
    """
    found = plausibility(model, data, recorded, own_words=own_words, execution=execution)
    if found.question is not None:
        raise InputError(": ".join((found.question, *found.hints)), "", MEND)
    return found


def plausibility(
    model: nn.Module,
    data: ClassificationData,
    recorded: Mapping[str, Recorded],
    *,
    own_words: bool,
    execution: Execution | None = None,
    most_samples: int = MOST_SAMPLES,
) -> Plausibility:
    """Loss and error on at most 1,024 training samples, held against what was recorded, or against chance.

    Parameters
    ----------
    model : torch.nn.Module
        With its trained weights. Nothing of it is changed, nor the global random state.
    data : ClassificationData
    recorded : mapping of str to Recorded
        ``train_accuracy_percent``, ``train_loss``, ``test_accuracy_percent``, ``test_loss``, as far as known.
    own_words : bool
        Whether the checkpoint itself names the data. Then, with nothing recorded, chance raises no question: the data
        are right and the network failed to train.
    execution : Execution, optional
        Device, precision, batch size, threads.
    most_samples : int
        Of the training data, and of the test data.

    Returns
    -------
    Plausibility
        A loss that is not finite raises no question here: the measurement itself says where that comes from.

    Raises
    ------
    LandscapeError
        If the network cannot be measured on these data, as in `landscape.measure`.
    """
    how = _How(execution or Execution(), most_samples)
    while True:
        try:
            with computing(how.execution):
                return _plausibility(Network(model, how.execution), data, usable_scores(recorded), own_words, how)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or how.execution.batch_size == 1:
                raise
            how = replace(how, execution=replace(how.execution, batch_size=how.execution.batch_size // 2))


@dataclass(frozen=True)
class _How:
    execution: Execution
    most: int


def _plausibility(
    network: Network, data: ClassificationData, recorded: Mapping[str, Recorded], own_words: bool, how: _How
) -> Plausibility:
    task = Task(data.num_classes)

    def answers(samples: Samples) -> Answers:
        objective = Objective(network, samples, task, execution=how.execution)
        assert objective.data is not None
        return Answers(objective.logits().cpu(), task.labels(objective.data.targets).cpu())

    samples, targets = data.train.subset(how.most, SEED), task.check_targets(data.train.targets)
    given = answers(samples)
    train = score(given)
    chance = Chance(100.0 - task.chance_error_percent(targets), task.chance_loss(targets))
    found = Plausibility(
        train_error_percent=100.0 - train.accuracy,
        standard_error=train.accuracy_error,
        chance_error_percent=100.0 - chance.accuracy,
        loss=train.loss,
        chance_loss=chance.loss,
        samples=len(samples),
    )
    if not math.isfinite(train.loss):
        return found
    test = None
    if data.test is not None and any(name.startswith("test_") for name in recorded):
        test = score(answers(data.test.subset(how.most, SEED)))
        found = replace(found, test_error_percent=100.0 - test.accuracy)
    held = list(comparisons(chance, train, test, recorded))
    question = next((f"{far} ({QUESTION})" for far in held if far), None)
    if question is None and not own_words:
        counts = torch.bincount(task.labels(targets).cpu())
        question = _question_of_chance(given, chance, counts, recorded.get("train_loss"), bool(held))
    doubted = question is None and not own_words and "train_loss" not in recorded
    overconfident = doubted and _loss_of_wrong(given) > LOSS_OF_WRONG
    if question is None and not overconfident:
        better = decisive_hint(answers, samples, given, chance.loss) if doubted and not held else None
        return found if better is None else replace(found, question=f"{better} ({QUESTION})")
    hints = [*exchanged_parts(train, test, recorded), *mending_hints(answers, samples, given, chance.loss)]
    if overconfident and hints:
        question = (
            f"the network is right on {train.accuracy:.1f} % ± {train.accuracy_error:.1f} of the training samples, and "
            f"its loss on the others is {_loss_of_wrong(given):.3g} each ({QUESTION})"
        )
    return found if question is None else replace(found, question=question, hints=tuple(hints))


def _loss_of_wrong(given: Answers) -> float:
    """Mean loss of the samples that are wrongly answered; 0 without any."""
    wrong = given.predicted != given.labels
    return float(given.losses[wrong].mean()) if bool(wrong.any()) else 0.0


def _question_of_chance(
    given: Answers, chance: Chance, counts: Tensor, recorded_loss: Recorded | None, fits: bool
) -> str | None:
    """Whether chance does as well, whether samples count alike or classes do; by its loss alone where a score `fits`.

    A network trained on weighted classes may fall below the most frequent class, and one that learnt nothing but the
    frequencies is no better than chance among classes that count alike: only what fails both ways raises a question.
    """
    present = int((counts > 0).sum())
    if present < 2:
        return None
    # training that wrote down such a loss did leave it
    limit = max(LOSS_OVER_CHANCE, 0.0 if recorded_loss is None else 2 * recorded_loss.value / chance.loss)
    weights = counts.sum() / (present * counts[given.labels].double())
    train, balanced = score(given), score(given, weights / weights.mean())
    views = ((train, chance), (balanced, Chance(100.0 / present, math.log(present))))
    above = all(of.loss - limit * by.loss > LOSS_ERRORS * of.loss_error for of, by in views)
    at_chance = all(
        of.accuracy - by.accuracy < max(CHANCE_POINTS, CHANCE_ERRORS * of.accuracy_error) for of, by in views
    )
    if not above and (fits or not at_chance):
        return None
    measured = (
        f"the network is right on {train.accuracy:.1f} % ± {train.accuracy_error:.1f} of the training samples, the "
        f"best constant answer on {chance.accuracy:.1f} %, and its loss is {train.loss:.3g}, chance's {chance.loss:.3g}"
    )
    if above:
        return f"{measured}: a loss that no training leaves ({QUESTION})"
    return f"{measured} ({QUESTION} Or did it fail to train?)"
