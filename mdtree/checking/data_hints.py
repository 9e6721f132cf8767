"""What would mend data on which a network answers badly, by trial: another normalisation, labels in another order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from landscape import Samples
from mdtree.specification import listing

TRIED_SAMPLES = 1024
"""Samples on which another normalisation is tried."""

TRIED_BYTES = 64 * 2**20
"""Or as many as these bytes hold, at least 64."""

FAR_POINTS = 15.0
"""A trial is worth a word if the accuracy is so many points above the one without it, or four standard errors."""

DECISIVE_POINTS = 25.0
"""So many points more, and half of the errors less, speak against the inputs as given by themselves."""

LOST_NATS = 0.1
"""Or if the accuracy is no less, and two thirds of the loss are gone, and at least this much."""

LEAST_RENAMED = 0.5
"""An order of the labels is told if it makes so many right: random features of an untrained network, too, keep easy
classes apart, each as some class."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network answers to some samples: logits (n, classes), and the labels (n,) they have."""

    logits: Tensor
    labels: Tensor

    @property
    def predicted(self) -> Tensor:
        """The class of the largest logit, shape (n,)."""
        return self.logits.argmax(1)

    @property
    def losses(self) -> Tensor:
        """Cross-entropy of each sample in nats, shape (n,)."""
        return functional.cross_entropy(self.logits, self.labels, reduction="none")

    @property
    def loss(self) -> float:
        """Their mean."""
        return float(self.losses.mean())

    @property
    def accuracy(self) -> float:
        """Share of the samples answered rightly."""
        return float((self.predicted == self.labels).double().mean())


def mending_hints(
    answer: Callable[[Samples], Answers], samples: Samples, given: Answers, chance_loss: float
) -> list[str]:
    """Clauses that say what would make the network right far more often.

    Parameters
    ----------
    answer : callable
        What the network answers to samples.
    samples : Samples
        The ones in question.
    given : Answers
        To `samples`.
    chance_loss : float
        In nats, of the best constant answer.

    Returns
    -------
    list of str
        Empty where no trial helps by far. Normalisations are tried where the inputs are one floating-point tensor.
    """
    if label_hint := _label_hint(given):
        return [label_hint]  # that the labels are others explains what the inputs would not
    trial = _best_trial(answer, samples, given, chance_loss)
    return [] if trial is None else [trial.text]


def decisive_hint(
    answer: Callable[[Samples], Answers], samples: Samples, given: Answers, chance_loss: float
) -> str | None:
    """What other inputs would do, where they would make the network right at least 25 points more often and halve its
    errors: as no network answers that was trained on the inputs as given. Parameters as for `mending_hints`."""
    trial = _best_trial(answer, samples, given, chance_loss)
    if trial is None:
        return None
    gain = trial.after.accuracy - trial.before.accuracy
    return trial.text if gain >= max(DECISIVE_POINTS / 100, (1 - trial.before.accuracy) / 2) else None


def _far(better: float, given: float, count: int) -> bool:
    """Whether one share is far above another, both of as many samples."""
    error = math.sqrt((better * (1 - better) + given * (1 - given)) / count)
    return better - given >= max(FAR_POINTS / 100, 4 * error)


@dataclass(frozen=True, eq=False)
class _Trial:
    """A change of the inputs that helps, in words, and what the network answers without and with it."""

    words: str
    before: Answers
    after: Answers

    @property
    def text(self) -> str:
        before, after = self.before, self.after
        return (
            f"{self.words} its accuracy would be {100 * after.accuracy:.0f} % and its loss {after.loss:.3g}, as given "
            f"{100 * before.accuracy:.0f} % and {before.loss:.3g}"
        )


def _best_trial(
    answer: Callable[[Samples], Answers], samples: Samples, given: Answers, chance_loss: float
) -> _Trial | None:
    """The change of the inputs that helps most: the first within a standard error of the best accuracy whose loss is
    near the least of these.

    A network of ReLU layers may keep its accuracy on inputs 255 times as large; its loss is then far above chance's,
    and what brings it back below has helped, too.
    """
    x = samples.inputs
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.dim() < 2:
        return None
    count = min(len(samples), TRIED_SAMPLES, max(64, TRIED_BYTES // (4 * x[0].numel())))
    x, targets = x[:count], samples.targets[:count]
    before = Answers(given.logits[:count], given.labels[:count])
    answered = ((words, answer(Samples(changed, targets))) for words, changed in changed_inputs(x))
    tried = [(words, each) for words, each in answered if math.isfinite(each.loss)]
    if not tried:
        return None
    best = max(each.accuracy for _, each in tried)
    error = math.sqrt(max(best * (1 - best), 1 / count) / count)
    tried = [pair for pair in tried if pair[1].accuracy >= best - error]
    least = min(each.loss for _, each in tried)
    words, after = next(pair for pair in tried if pair[1].loss <= 1.15 * least)
    below_chance = before.loss > 1.1 * chance_loss and after.loss < 0.9 * chance_loss
    mended = below_chance or before.loss - after.loss > max(LOST_NATS, 2 / 3 * before.loss)
    if not (mended and after.accuracy >= before.accuracy - error) and not _far(after.accuracy, before.accuracy, count):
        return None
    return _Trial(words, before, after)


def changed_inputs(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Inputs (n, ...) as other people normalise them, each with the words for what was done."""
    spread = (float(x.min()), float(x.max()))
    if spread[0] == spread[1]:
        return
    yield "divided by 255", x / 255
    yield "multiplied by 255", x * 255
    unit = _to_unit(x, spread)
    yield "scaled to 0...1", unit
    yield "scaled to 0...255", unit * 255
    yield "scaled to -1...1", 2 * unit - 1
    yield from _standardised(x)
    if x.dim() != 4 or x.shape[1] not in (1, 3):
        return
    mean, deviation = (
        torch.tensor(values, dtype=x.dtype)[: x.shape[1]].view(1, -1, 1, 1)
        for values in (IMAGENET_MEAN, IMAGENET_DEVIATION)
    )
    yield "scaled to 0...1 and normalised by ImageNet's mean and deviation", (unit - mean) / deviation
    yield "with ImageNet's normalisation undone", x * deviation + mean
    yield "with black and white exchanged", spread[0] + spread[1] - x
    yield "with rows and columns exchanged", x.transpose(2, 3)
    if x.shape[1] == 3:
        yield "with the colour channels in reverse order (BGR for RGB)", x.flip(1)
        yield "scaled to 0...255 with the colour channels in reverse order", (unit * 255).flip(1)


def _to_unit(x: Tensor, spread: tuple[float, float]) -> Tensor:
    """Between 0 and 1: as it is, over 255, or by the least and the largest value of each channel."""
    low, high = spread
    if low >= 0 and high <= 1:
        return x
    if low >= 0 and 1.5 < high <= 255:
        return x / (255 if high > 127 else high)
    dims = _others(x)
    least, most = x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)
    return (x - least) / (most - least).clamp_min(torch.finfo(x.dtype).tiny)


def _standardised(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """To mean 0 and deviation 1: by channel, or by feature where there are no channels; and as a whole."""
    word = "feature" if x.dim() == 2 else "channel"
    mean, deviation = x.mean(_others(x), keepdim=True), x.std(_others(x), keepdim=True)
    yield f"standardised by {word}", (x - mean) / torch.where(deviation > 0, deviation, 1.0)
    if mean.numel() > 1:
        yield "standardised as a whole", (x - x.mean()) / x.std()


def _others(x: Tensor) -> tuple[int, ...]:
    """Every dimension but that of the channels."""
    return (0, *range(2, x.dim()))


def _label_hint(given: Answers) -> str:
    """Which labels the network calls otherwise, if they mostly map one to one on its answers.

    The assignment that makes the most samples right is found on each half of them and held against the other, since
    of many classes some assignment always fits the samples that it was chosen on.
    """
    count, classes = given.logits.shape
    halves = torch.arange(count) % 2 == 0
    right = 0
    for half in (halves, ~halves):
        assigned = _assignment(given.labels[half], given.predicted[half], classes)
        right += int((assigned[given.labels[~half]] == given.predicted[~half]).sum())
    share = right / count
    if not _far(share, given.accuracy, count):
        return ""
    for step in (-1, 1):
        shifted = float(((given.labels + step) % classes == given.predicted).double().mean())
        if classes > 2 and shifted >= share - math.sqrt(share * (1 - share) / count):
            return f"the labels look off by one: label 1 is what the network calls {1 + step} ({_would_be(shifted)})"
    if share < LEAST_RENAMED:
        return ""
    assigned = _assignment(given.labels, given.predicted, classes)
    present = torch.bincount(given.labels, minlength=classes) > 0
    moved = [(label, int(assigned[label])) for label in range(classes) if present[label] and assigned[label] != label]
    return f"{_renaming(moved, classes)} ({_would_be(share)})"


def _would_be(share: float) -> str:
    return f"its accuracy would be {100 * share:.0f} %"


def _assignment(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """The answer of the network that stands for each label, one to one, shape (classes,)."""
    confusion = torch.bincount(labels * classes + predicted, minlength=classes * classes).view(classes, classes)
    # a label that is rightly answered stays what it is where nothing speaks against it
    gain = confusion.double() + 1e-6 * torch.eye(classes, dtype=torch.float64)
    _, columns = linear_sum_assignment(gain.numpy(), maximize=True)
    return torch.from_numpy(columns)


def _renaming(moved: list[tuple[int, int]], classes: int) -> str:
    if len(moved) == 2 and moved[0] == moved[1][::-1]:
        return f"the labels {moved[0][0]} and {moved[0][1]} look exchanged"
    if all(label + answer == classes - 1 for label, answer in moved):
        return "the labels look to be in reverse order"
    pairs = listing([f"{label} is what the network calls {answer}" for label, answer in moved], 3)
    return f"{len(moved)} labels look to be in another order: {pairs}"
