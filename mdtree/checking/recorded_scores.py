"""What speaks against data: a network's scores on them, far below those that its training recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mdtree.checking.data_hints import Answers
from mdtree.recipes.recipe import Recorded

ACCURACY_POINTS = 10.0
"""How far below a recorded accuracy is far. What a training records is often a running average under augmentation and
dropout, which is below what the finished network does, so that nothing follows from a measured one above it."""

ACCURACY_ERRORS = 4.0
"""Or so many standard errors, if they are more."""

LOSS_NATS = 0.5
"""How far above a recorded loss is far, or a third of chance's loss, or four standard errors, whichever is most."""

LOSS_OVER_CHANCE = 1.1
"""A training loss over chance's that no training leaves behind."""


@dataclass(frozen=True)
class Score:
    """One network on some samples: accuracy in percent, loss in nats, with their standard errors."""

    accuracy: float
    accuracy_error: float
    loss: float
    loss_error: float


@dataclass(frozen=True)
class Chance:
    """Accuracy in percent and loss in nats of the best constant answer."""

    accuracy: float
    loss: float


def score(answers: Answers, weights: Tensor | None = None) -> Score:
    """The means over the samples; with weights (n,), whose mean is 1, over as many of each class."""
    count = len(answers.labels)
    weights = torch.ones(count, dtype=torch.float64) if weights is None else weights
    losses = weights * answers.losses
    right = (answers.predicted == answers.labels).double()
    accuracy = float((weights * right).mean())
    # an accuracy of 0 or 1 by chance is known to about 1 / n, not exactly
    variance = max(float((weights * (right - accuracy)).square().mean()), 1 / (count + 1))
    loss_error = float(losses.std()) / math.sqrt(count) if count > 1 else 0.0
    return Score(100.0 * accuracy, 100.0 * math.sqrt(variance / count), float(losses.mean()), loss_error)


def usable_scores(recorded: Mapping[str, Recorded]) -> dict[str, Recorded]:
    """Scores that can be ones: finite, accuracies between 0 and 100, losses not negative."""
    return {
        name: score
        for name, score in recorded.items()
        if math.isfinite(score.value) and 0 <= score.value <= (100 if name.endswith("percent") else math.inf)
    }


def comparisons(chance: Chance, train: Score, test: Score | None, recorded: Mapping[str, Recorded]) -> Iterator[str]:
    """For every recorded score that there is something to hold against: why it is far off, or nothing."""
    parts: Sequence[tuple[str, str, Score | None]] = (("train", "training", train), ("test", "test", test))
    for part, word, score in parts:
        accuracy, loss = recorded.get(f"{part}_accuracy_percent"), recorded.get(f"{part}_loss")
        if score is not None and accuracy is not None:
            yield _accuracy_question(word, score, accuracy)
        # an accuracy that fits says more than a loss, which may be another one than cross-entropy
        elif score is not None and loss is not None:
            yield _loss_question(word, score, loss, chance.loss)
    accuracy = recorded.get("test_accuracy_percent")
    if test is None and accuracy is not None and "train_accuracy_percent" not in recorded:
        yield _train_below_test(train, accuracy, chance.accuracy)


def _accuracy_question(word: str, score: Score, recorded: Recorded) -> str:
    if recorded.value - score.accuracy <= max(ACCURACY_POINTS, ACCURACY_ERRORS * score.accuracy_error):
        return ""
    return (
        f"the network is right on {score.accuracy:.1f} % ± {score.accuracy_error:.1f} of the {word} samples, and its "
        f"training recorded {recorded.value:.1f} % ({recorded.source})"
    )


def _loss_question(word: str, score: Score, recorded: Recorded, chance_loss: float) -> str:
    if score.loss - recorded.value <= max(LOSS_NATS, chance_loss / 3, ACCURACY_ERRORS * score.loss_error):
        return ""
    # each wrong answer costs ln 2 or more, so that a cross-entropy bounds the error
    most_wrong = 100.0 * recorded.value / math.log(2) + ACCURACY_POINTS
    if 100.0 - score.accuracy <= most_wrong and score.loss <= LOSS_OVER_CHANCE * chance_loss:
        return ""
    return (
        f"the loss on the {word} samples is {score.loss:.3g} (accuracy {score.accuracy:.1f} %), and the training "
        f"recorded {recorded.value:.3g} ({recorded.source})"
    )


def _train_below_test(train: Score, recorded: Recorded, chance: float) -> str:
    """Wrong labels in the training part may honestly cost much, but not half of the way to chance."""
    if train.accuracy >= (chance + recorded.value) / 2:
        return ""
    asked = _accuracy_question("training", train, recorded)
    return asked and asked.replace("its training recorded", "on its test samples its training recorded")


def exchanged_parts(train: Score, test: Score | None, recorded: Mapping[str, Recorded]) -> list[str]:
    """Whether the training scores are those of the test samples, and the other way round."""
    of_train, of_test = (recorded.get(f"{part}_accuracy_percent") for part in ("train", "test"))
    if test is None or of_train is None or of_test is None or of_train.value - of_test.value <= ACCURACY_POINTS:
        return []
    near = abs(train.accuracy - of_test.value) <= max(ACCURACY_POINTS / 2, ACCURACY_ERRORS * train.accuracy_error)
    if near and of_train.value - test.accuracy <= ACCURACY_POINTS / 2:
        return [
            f"the training and the test samples look exchanged, since on the test samples it is right on "
            f"{test.accuracy:.1f} %"
        ]
    return []
