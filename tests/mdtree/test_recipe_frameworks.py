"""What Lightning, the Hugging Face Trainer and timm write of a training, read into a recipe."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_recipe import namespace, recipe, values


def averaging(epochs: int) -> dict[str, Any]:
    """After so many epochs of Lightning's stochastic weight averaging, which last averaged in the third."""
    progress = {"total": {"processed": 4 * epochs}, "current": {"processed": 4}, "is_last_batch": True}
    group = {"lr": 0.03, "initial_lr": 0.05, "swa_lr": 0.05, "dampening": 0, "params": [0]}
    return lightning(
        loops={"fit_loop": {"epoch_loop.batch_progress": progress}},
        callbacks={"StochasticWeightAveraging": {"latest_update_epoch": 2}},
        optimizer_states=[{"state": {}, "param_groups": [group]}],
    )


def test_lightnings_averaging_ends_with_an_epoch_that_trains_nothing_and_moves_the_rate() -> None:
    assert recipe(averaging(3)).values["epochs"] == recipe(averaging(4)).values["epochs"] == 3
    assert recipe(averaging(3)).values["learning_rate"] == 0.1  # of the hyper-parameters


def lightning(**more: Any) -> dict[str, Any]:
    progress = {"total": {"processed": 12}, "current": {"processed": 4}, "is_last_batch": True}
    scores = {"runs/epoch=0-step=4.ckpt": torch.tensor(0.9), "runs/epoch=2-step=12.ckpt": torch.tensor(0.75)}
    checkpoint = {"monitor": "val_acc", "current_score": torch.tensor(0.75), "best_k_models": scores}
    return {
        "pytorch-lightning_version": "2.6",
        "epoch": 2,
        "global_step": 12,
        "loops": {"fit_loop": {"epoch_loop.batch_progress": progress}},
        "hyper_parameters": {"lr": 0.1, "batch_size": 8, "max_epochs": 50},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_acc'}": checkpoint},
        **more,
    }


def test_lightning_tells_epochs_size_and_the_score_of_these_weights() -> None:
    found = recipe(lightning())
    assert found.framework == "lightning"
    assert dict(found.values) == {
        **{"steps": 12, "epochs": 3, "learning_rate": 0.1, "batch_size": 8, "planned_epochs": 50},
        "train_size": 32,
    }
    assert found.sources["train_size"].startswith("about: 4 batches an epoch (loops.fit_loop")
    assert found.recorded["test_accuracy_percent"].value == 75.0  # not the best of all epochs
    # validated were the averaged weights, which are not in use
    swapped = lightning(current_model_state={}, averaging_state={})
    assert recipe(swapped, used="current_model_state").recorded == {}
    assert recipe(swapped, used="state_dict (averaged weights)").recorded != {}


@pytest.mark.parametrize(
    ("name", "is_known"),
    [
        ("epoch=2-step=12", True),
        ("step=12", True),
        ("epoch=2", True),
        ("step=8", False),
        ("best", False),
        ("x=12", False),
    ],
)
def test_a_score_of_an_earlier_file_is_not_that_of_the_last_one(name: str, is_known: bool) -> None:
    watched = {"monitor": "val_loss", "current_score": 0.5, "best_k_models": {f"/runs/step=1/{name}.ckpt": 0.5}}
    assert ("test_loss" in recipe(lightning(callbacks={"ModelCheckpoint": watched})).recorded) is is_known


def test_lightning_within_an_epoch_tells_whole_epochs_alone() -> None:
    progress = {"total": {"processed": 10}, "current": {"processed": 2}, "is_last_batch": False}
    found = recipe(lightning(loops={"fit_loop": {"epoch_loop.batch_progress": progress}}))
    assert found.values["epochs"] == 2
    assert "train_size" not in found.values


def test_lightning_tells_of_several_batches_an_update() -> None:
    found = recipe(lightning(global_step=6))
    assert (found.values["batch_size"], found.values["train_size"], found.values["steps"]) == (16, 32, 6)
    assert found.sources["batch_size"] == "hyper_parameters.batch_size x 2 batches an update (by global_step)"
    assert recipe(lightning(global_step=7)).values["batch_size"] == 8  # no number of batches explains it
    assert recipe(lightning(global_step=24)).values["batch_size"] == 8  # two optimizers


def trainer(**arguments: Any) -> dict[str, Any]:
    history = [
        {"step": 10, "loss": 0.9, "epoch": 1.0},
        {"step": 20, "loss": 0.5, "epoch": 2.0},
        {"step": 20, "eval_accuracy": 0.8, "eval_loss": 0.6, "epoch": 2.0},
    ]
    told = {"learning_rate": 5e-5, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, **arguments}
    state = {"epoch": 2.0, "global_step": 20, "log_history": history}
    return {"trainer_state.json": state, "training_args.bin": namespace(**told)}


def test_the_trainer_tells_steps_batches_and_the_scores_of_the_last_step() -> None:
    found = recipe({}, trainer(num_train_epochs=5, optim="adamw_torch_fused", lr_scheduler_type="linear"))
    assert found.framework == "transformers"
    assert dict(found.values) == {
        **{"epochs": 2, "steps": 20, "learning_rate": 5e-5, "optimizer": "adamw", "schedule": "linear"},
        **{"planned_epochs": 5, "batch_size": 8, "train_size": 80},
    }
    assert found.sources["train_size"].startswith("about: 10 updates an epoch")
    assert {name: one.value for name, one in found.recorded.items()} == {
        **{"test_accuracy_percent": 80.0, "test_loss": 0.6},
        "train_loss": 0.5,
    }
    assert found.recorded["test_loss"].source == "log_history[2].eval_loss in trainer_state.json"


def test_the_trainer_on_several_machines_and_with_the_best_weights() -> None:
    processes = namespace(num_processes=3)
    assert values({}, trainer(distributed_state=processes, _n_gpu=2))["batch_size"] == 48
    later = trainer()
    later["trainer_state.json"]["global_step"] = 25
    assert recipe({}, later).recorded == {}  # the scores are of step 20
    best = recipe({}, trainer(load_best_model_at_end=True))
    assert best.recorded == {}
    assert best.notes[0].startswith("the best of several checkpoints may have been loaded")
    counted = recipe({}, {**trainer(), "all_results.json": {"train_samples": 77, "eval_accuracy": 0.7}})
    assert (counted.values["train_size"], counted.sources["train_size"]) == (77, "train_samples in all_results.json")
    assert counted.recorded["test_accuracy_percent"].value == pytest.approx(70.0)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("google/bert_uncased_L-2", "google/bert_uncased_L-2"),
        ("gpt2", "gpt2"),
        ("", None),
        ("/home/me/out", None),
        ("./out", None),
        ("../out", None),
        ("out/checkpoint-500", None),
        ("a/b/c", None),
        (3, None),
    ],
)
def test_published_weights_are_a_start_and_a_folder_is_not(name: Any, start: str | None) -> None:
    found = recipe({}, {"config.json": {"model_type": "bert", "_name_or_path": name}})
    assert found.fine_tuned_from == start
    assert bool(found.notes) == (start is None and bool(name) and isinstance(name, str))


def test_timm_tells_its_network_and_counts_epochs_from_0() -> None:
    args = namespace(num_classes=10, in_chans=1, batch_size=4, world_size=2, grad_accum_steps=3, eval_metric="top1")
    held = {"arch": "resnet18.a1_in1k", "state_dict": {}, "args": args, "version": 2, "epoch": 4, "metric": 61.5}
    found = recipe(held)
    assert (found.framework, found.network) == ("timm", "timm:resnet18.a1_in1k?num_classes=10&in_chans=1")
    assert dict(found.values) == {"epochs": 5, "batch_size": 24}
    assert found.sources["batch_size"] == "args.batch_size x args.world_size x args.grad_accum_steps"
    assert found.recorded["test_accuracy_percent"].value == 61.5
    assert recipe({**held, "version": 1}).values["epochs"] == 4
    # with an average beside them it is the average that timm evaluates
    assert recipe({**held, "state_dict_ema": {}}).recorded == {}
    assert recipe({**held, "arch": "a?b&c"}).network is None
