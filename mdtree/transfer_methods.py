"""What a transfer compares: the diagnoser, and the simplest answers that it has to beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeClassifier

from mdtree.baselines import VALIDATION_COLUMNS, baseline_predictions
from mdtree.diagnoser_schema import Diagnoser
from mdtree.errors import InputError
from mdtree.evaluation import answers, temperature_where_readings_agree
from mdtree.fitting import fit_diagnoser
from mdtree.refinement import STARTS
from mdtree.tree import MDTree
from mdtree.zoo import QUESTIONS, UNLABELLED

HYPERPARAMETERS = ("width", "train_size", "learning_rate", "temperature")
PARAMETER_COUNT = ("parameter_count",)

DEFAULT = "default"
AGREEING = "default_where_readings_agree"
"""The default's temperature, withheld where its readings do not lean to the same side."""

FitDiagnoser = Callable[[pd.DataFrame, str], Diagnoser]
"""(labelled rows, name) -> the diagnoser fitted on all of them."""


class Answering(Protocol):
    """A method fitted on some rows."""

    def __call__(self, rows: pd.DataFrame, question: str, evidence: str) -> np.ndarray:
        """The answer for every row, shape (rows,); an InputError says what it cannot answer."""
        ...


@dataclass(frozen=True)
class Method:
    """A way to answer, as a transfer fits it.

    Attributes
    ----------
    name : str
    fit : callable
        From the rows to fit on. All of them are there to be fitted: none is marked held out.
    sees_evidence : bool
        Whether its answers depend on the evidence set.
    questions : tuple of str
        Those it answers.
    upon : str, optional
        The method whose fitted answers `fit` takes, in place of rows: nothing is fitted anew.
    """

    name: str
    fit: Callable[[Any], Answering]
    sees_evidence: bool = False
    questions: tuple[str, ...] = QUESTIONS
    upon: str | None = None


@dataclass(frozen=True)
class _Diagnosing:
    diagnoser: Diagnoser

    def __call__(self, rows: pd.DataFrame, question: str, evidence: str) -> np.ndarray:
        if evidence not in self.diagnoser.trees.get(question, {}):
            raise InputError("nothing to fit its tree on: one kind of answer, or no such metrics")
        return answers(self.diagnoser, rows, question, evidence)


@dataclass(frozen=True)
class _Agreeing:
    """The temperature where its readings agree, `undetermined` elsewhere."""

    diagnoser: Diagnoser

    def __call__(self, rows: pd.DataFrame, question: str, evidence: str) -> np.ndarray:
        return temperature_where_readings_agree(self.diagnoser, rows, evidence)


def _where_readings_agree(fitted: Answering) -> Answering:
    if not isinstance(fitted, _Diagnosing):
        raise InputError("a method without a diagnoser has no readings to compare")
    return _Agreeing(fitted.diagnoser)


@dataclass(frozen=True)
class DiagnoserMethod:
    """Fits a diagnoser and answers as it does; a callable for `Method.fit` that can travel to a worker."""

    fit_diagnoser: FitDiagnoser

    def __call__(self, rows: pd.DataFrame) -> Answering:
        return _Diagnosing(self.fit_diagnoser(rows, DEFAULT))


@dataclass(frozen=True)
class _Labelled:
    """Rows, and the clear ones among them by question."""

    rows: pd.DataFrame

    def clear(self, question: str) -> tuple[pd.DataFrame, np.ndarray]:
        label = self.rows[f"label_{question}"]
        part = self.rows[~(label.isin(UNLABELLED) | label.isna())]
        labels = part[f"label_{question}"].to_numpy(dtype=str)
        if not labels.size:
            raise InputError(f"no row to fit on has a clear answer to {question}")
        return part, labels


@dataclass(frozen=True)
class _Majority(_Labelled):
    def __call__(self, rows: pd.DataFrame, question: str, evidence: str) -> np.ndarray:
        part, labels = self.clear(question)
        return baseline_predictions("majority", part, labels, rows)


@dataclass(frozen=True)
class _Settings(_Labelled):
    """A balanced CART tree of depth 4 on columns that say how the network was made."""

    columns: tuple[str, ...]

    def __call__(self, rows: pd.DataFrame, question: str, evidence: str) -> np.ndarray:
        part, labels = self.clear(question)
        columns = _measured(part, self.columns)
        tree = DecisionTreeClassifier(max_depth=4, class_weight="balanced", random_state=0)
        tree.fit(part[columns].to_numpy(dtype=float), labels)
        return np.asarray(tree.predict(rows[columns].to_numpy(dtype=float)), dtype=str)


@dataclass(frozen=True)
class _Validation(_Labelled):
    """A balanced readable tree on train and test error and loss, refined like those of the diagnoser."""

    def __call__(self, rows: pd.DataFrame, question: str, evidence: str) -> np.ndarray:
        part, labels = self.clear(question)
        columns = _measured(part, VALIDATION_COLUMNS)
        if len(set(labels.tolist())) == 1:
            return np.full(len(rows), labels[0])
        tree = MDTree(class_weight="balanced", starts=STARTS)
        tree.fit(part[columns].to_numpy(dtype=float), labels)
        return np.asarray(tree.predict(rows[columns].to_numpy(dtype=float)), dtype=str)


def _measured(rows: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    found = [name for name in columns if rows[name].notna().any()]
    if not found:
        raise InputError(f"no row to fit on has {' or '.join(columns)}")
    return found


def _hyperparameters(rows: pd.DataFrame) -> Answering:
    return _Settings(rows, HYPERPARAMETERS)


def _parameter_count(rows: pd.DataFrame) -> Answering:
    return _Settings(rows, PARAMETER_COUNT)


BASELINES = (
    Method("majority", _Majority),
    Method("hyperparameters", _hyperparameters),
    Method("parameter_count", _parameter_count),
    Method("validation", _Validation),
)
"""The most frequent clear answer; trees on the training configuration, on the number of parameters alone, and on what
training and validation report (`mdtree.baselines.VALIDATION_COLUMNS`, with test metrics whatever the evidence)."""


def methods_with(fit: FitDiagnoser = fit_diagnoser) -> tuple[Method, ...]:
    """The default method, which fits a diagnoser in a given way, and the baselines beside it."""
    return (
        Method(DEFAULT, DiagnoserMethod(fit), sees_evidence=True),
        Method(AGREEING, _where_readings_agree, sees_evidence=True, questions=("temperature",), upon=DEFAULT),
        *BASELINES,
    )
