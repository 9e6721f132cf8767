"""A diagnosis in MLflow: numbers as metrics, words as tags, how it was made as params, report and figure as artefacts.

Tags are ``mdtree.verdict``, ``mdtree.advice`` ...; params ``mdtree.evidence``, ``mdtree.diagnoser``,
``mdtree.protocol``; artefacts stand in the folder ``mdtree``. Names: `mdtree.integrations.trackers`.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.integrations.trackers import PREFIX, Logged, logged
from mdtree.specification import shown

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PARAMS = ("evidence", "diagnoser", "protocol")


@dataclass(frozen=True)
class MLflowRun:
    """A run of a tracking store: one that is there, or a new one, which ends when the diagnosis is written.

    Attributes
    ----------
    run_id : str, optional
        The run that is there.
    tracking_uri : str, optional
        The store, ``sqlite:///mlflow.db`` or ``http://...``; by default the one that MLflow is set to.
    experiment : str
        Where a new run is made; the experiment is made, too, if need be.
    name : str, optional
        Of a new run.
    """

    run_id: str | None = None
    tracking_uri: str | None = None
    experiment: str = "Default"
    name: str | None = None


def log_diagnosis(
    diagnosis: Diagnosis,
    destination: MLflowRun | Run | None = None,
    step: int | None = None,
    *,
    diagnoser: Diagnoser | None = None,
) -> str:
    """Write a diagnosis into a run of MLflow.

    ::

        with mlflow.start_run():
            log_diagnosis(mdtree.diagnose("checkpoint.pt"))

        log_diagnosis(diagnosis, MLflowRun(tracking_uri="sqlite:///mlflow.db", experiment="digits"))

    Parameters
    ----------
    diagnosis : Diagnosis
    destination : MLflowRun or mlflow.entities.Run, optional
        The active run by default.
    step : int, optional
        The updates of training that the network had seen.
    diagnoser : Diagnoser, optional
        The one that decided, where it is not the embedded one: for the drawn path.

    Returns
    -------
    str
        The run's id.

    Raises
    ------
    InputError
        MLflow is not installed, no run is active, or there is no such run; or as
        `mdtree.integrations.trackers.logged`. What MLflow itself raises of a store that cannot be reached comes
        through.
    """
    everything = logged(diagnosis, diagnoser)
    mlflow = _mlflow()
    if isinstance(destination, MLflowRun):
        return write_to(destination, everything, step)
    run = destination or mlflow.active_run()
    if run is None:
        raise InputError("no MLflow run is active", "one", "with mlflow.start_run(): ..., or give an MLflowRun")
    run_id: str = run.info.run_id
    write_run(mlflow.MlflowClient(), run_id, everything, step)
    return run_id


def write_to(run: MLflowRun, everything: Logged, step: int | None) -> str:
    """Write into the run named, or into a new one; its id.

    Raises
    ------
    InputError
        MLflow is not installed, or there is no such run.
    """
    client: MlflowClient = _mlflow().MlflowClient(tracking_uri=run.tracking_uri)
    if run.run_id is not None:
        write_run(client, run.run_id, everything, step)
        return run.run_id
    experiment = client.get_experiment_by_name(run.experiment)
    number = client.create_experiment(run.experiment) if experiment is None else experiment.experiment_id
    run_id: str = client.create_run(number, run_name=run.name).info.run_id
    try:
        write_run(client, run_id, everything, step)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    return run_id


def write_run(client: MlflowClient, run_id: str, everything: Logged, step: int | None) -> None:
    """Write into a run that is there, active or ended; its state stays as it is.

    MLflow never changes a param of a run: of a second diagnosis with other ones, the tags tell.

    Raises
    ------
    InputError
        There is no such run.
    """
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException

    try:
        known = client.get_run(run_id).data.params
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise InputError(f"there is no MLflow run {shown(run_id)}", "the id of a run of this store") from error
    now = int(time.time() * 1000)
    params = {f"{PREFIX}.{name}": everything.words[name] for name in _PARAMS if name in everything.words}
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, step or 0) for name, value in everything.numbers.items()],
        params=[Param(name, value) for name, value in params.items() if name not in known],
        tags=[RunTag(f"{PREFIX}.{name}", value) for name, value in everything.words.items()],
    )
    with tempfile.TemporaryDirectory(prefix="mdtree-") as folder:
        for name, content in everything.files.items():
            (Path(folder) / name).write_bytes(content)
        client.log_artifacts(run_id, folder, PREFIX)


def _mlflow() -> Any:
    try:
        import mlflow
    except ImportError as error:
        raise InputError(f"MLflow is not installed ({error})", "", "pip install 'mdtree-diagnosis[mlflow]'") from error
    return mlflow
