"""Local stores of the three trackers, and what their own readers find there. Nothing is sent anywhere."""

import io
import os
from contextlib import contextmanager
from pathlib import Path

# before they are imported: no telemetry
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import matplotlib.image
import mlflow
import numpy as np
import pytest
import wandb
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def event_folder(folder):
    """TensorBoard's view of a run."""
    found = EventAccumulator(os.fspath(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    found.Reload()
    return found


def only_scalar(events, name):
    [scalar] = events.Scalars(name)
    return scalar


def only_text(events, name):
    [tensor] = events.Tensors(f"{name}/text_summary")
    return tensor.tensor_proto.string_val[0].decode()


def only_image(events, name):
    """As TensorBoard shows it: pixels, and the size it tells."""
    [image] = events.Images(name)
    return pixels(image.encoded_image_string), (image.height, image.width), image.step


def pixels(png):
    """A PNG file as uint8, without transparency."""
    return np.rint(255 * matplotlib.image.imread(io.BytesIO(png), format="png"))[:, :, :3].astype(np.uint8)


def sqlite_store(folder):
    """A client of a new MLflow store in a file."""
    return MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")


def artifact(client, run_id, path, folder):
    """The bytes that MLflow hands out."""
    return Path(client.download_artifacts(run_id, path, str(folder))).read_bytes()


@contextmanager
def kept_in(folder):
    """Trackers that keep all they get in a folder, which becomes the working one; afterwards they know nothing of it.

    MLflow and Weights & Biases read the environment once in a process and remember.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
            patch.setenv(f"WANDB_{name}", str(folder))
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_CONSOLE", "off")
        patch.chdir(folder)
        _forget()
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        try:
            yield patch
        finally:
            _forget()


def _forget():
    mlflow.end_run()
    mlflow.set_tracking_uri(None)
    wandb.finish()
    wandb.teardown()
