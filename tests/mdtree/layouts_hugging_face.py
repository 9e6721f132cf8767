"""Folders and files of transformers and accelerate, and files in the form of timm's training script."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import Accelerator
from layout import EPOCHS, RATE, Built, Layout, copied, fit, network, samples, trained
from layouts_torch import SGD
from torch import nn
from torch.utils.data import Dataset

ADAMW = {"learning_rate": 0.01, "optimizer": "adamw", "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01}
ARGUMENTS = {**ADAMW, "schedule": "cosine", "warmup_steps": 2, "seed": 7, "batch_size": 8}
TRAINED = {**ARGUMENTS, "epochs": EPOCHS, "steps": 12, "train_size": 32}
TRANSFORMERS, ACCELERATE = {"framework": "transformers"}, {"framework": "accelerate"}


class Sentences(Dataset[Any]):
    """Thirty sentences of eight words that mean nothing."""

    def __init__(self) -> None:
        self.words = torch.randint(0, 50, (30, 8), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.words[index], "labels": index % 2}


def bert(kind: type[Any] = transformers.BertForSequenceClassification) -> Any:
    """The smallest of its kind, with fresh weights."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(transformers.BertConfig(vocab_size=50, max_position_embeddings=16, num_labels=2, **sizes))


def fine_trainer(folder: Path, **options: Any) -> transformers.Trainer:
    """Trained for three epochs, four samples at a time, two at a time for one update."""
    arguments = transformers.TrainingArguments(
        str(folder),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        num_train_epochs=EPOCHS,
        learning_rate=0.01,
        weight_decay=0.01,
        lr_scheduler_type="cosine",
        warmup_steps=2,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_steps=4,
        seed=7,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **options,
    )
    trainer = transformers.Trainer(
        bert(),
        arguments,
        train_dataset=Sentences(),
        eval_dataset=Sentences(),
        compute_metrics=lambda told: {"accuracy": float((told.predictions.argmax(1) == told.label_ids).mean())},
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return trainer


def _checkpoint(number: int, file: str = "", **options: Any) -> Callable[[Path], Built]:
    """The folder (or the weights in it) that the trainer writes after an epoch."""

    def build(folder: Path) -> Built:
        trainer = fine_trainer(folder, **options)
        history = [entry for entry in trainer.state.log_history if entry["step"] == number]
        scores = {key: value for entry in history for key, value in entry.items()}
        recorded = {"test_accuracy_percent": 100 * scores["eval_accuracy"]}
        if "label_smoothing_factor" not in options:
            recorded |= {"test_loss": scores["eval_loss"], "train_loss": scores["loss"]}
        state = copied(trainer.model) if number == 12 else {}
        return Built(folder / f"checkpoint-{number}" / file, state, recorded)

    return build


def _final(folder: Path) -> Built:
    trainer = fine_trainer(folder, load_best_model_at_end=True)
    trainer.save_model()
    trainer.save_state()
    return Built(folder, copied(trainer.model))


def _weights_saved(folder: Path) -> Built:
    trainer = fine_trainer(folder / "runs")
    trainer.save_model(str(folder / "final"))
    return Built(folder / "final", copied(trainer.model))


def _pretrained(model: Callable[[], Any] = bert, **options: Any) -> Callable[[Path], Built]:
    def build(folder: Path) -> Built:
        made = model()
        made.save_pretrained(folder / "saved", **options)
        return Built(folder / "saved", copied(made))

    return build


def _tied(folder: Path) -> Built:
    built = _pretrained(lambda: bert(transformers.BertForMaskedLM))(folder)
    # a tensor under two names is written under the first of them
    second = "cls.predictions.decoder"
    return Built(built.path, {name: one for name, one in built.state.items() if not name.startswith(second)})


def _older(shards: int) -> Callable[[Path], Built]:
    """In the form of transformers before safetensors: ``pytorch_model.bin``, or several and an index."""

    def build(folder: Path) -> Built:
        model = bert()
        model.config.save_pretrained(folder)
        state = copied(model)
        if shards == 1:
            torch.save(state, folder / "pytorch_model.bin")
            return Built(folder, state)
        index = {name: f"pytorch_model-{i % shards + 1:05}-of-{shards:05}.bin" for i, name in enumerate(state)}
        for file in sorted(set(index.values())):
            torch.save({name: state[name] for name in state if index[name] == file}, folder / file)
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
        return Built(folder, state)

    return build


def _named(name: str) -> Callable[[Path], Built]:
    """As transformers 4 wrote its ``config.json``: with the name of what was read."""

    def build(folder: Path) -> Built:
        built = _pretrained()(folder)
        config = json.loads((built.path / "config.json").read_text())
        (built.path / "config.json").write_text(json.dumps({**config, "_name_or_path": name}))
        return built

    return build


def accelerated(save: Callable[[Accelerator, nn.Module, Path], Any]) -> Callable[[Path], Built]:
    """A network prepared and trained by accelerate, saved by one of its functions."""

    def build(folder: Path) -> Built:
        accelerator = Accelerator(cpu=True)
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        prepared = accelerator.prepare(model, optimizer, schedule)
        fit(*prepared)
        save(accelerator, prepared[0], folder / "saved")
        return Built(folder / "saved", copied(model))

    return build


def timm_style(key: str, mean: bool) -> Callable[[Path], Built]:
    """The dict that timm's ``CheckpointSaver`` writes, from a training like that of its script."""

    def build(folder: Path) -> Built:
        model, optimizer = trained()
        args = argparse.Namespace(model="resnet18", num_classes=2, lr=None, lr_base=RATE, epochs=90, batch_size=4)
        vars(args).update(world_size=2, smoothing=0.1, sched="cosine", opt="sgd", seed=42, eval_metric="top1")
        vars(args).update(pretrained=mean, initial_checkpoint="")
        x, y = samples()
        accuracy = 100 * float((model.eval()(x).argmax(1) == y).double().mean())
        held = {"epoch": EPOCHS - 1, "arch": "resnet18", "state_dict": model.state_dict(), "version": 2, "args": args}
        held |= {"optimizer": optimizer.state_dict(), "metric": accuracy}
        other = network(1).state_dict()
        torch.save({**held, "state_dict_ema": other} if mean else held, folder / "last.pth.tar")
        recorded = {} if mean else {"test_accuracy_percent": accuracy}
        return Built(folder / "last.pth.tar", copied(model), recorded)

    return build


_TIMM = {
    **SGD,
    **{
        "epochs": EPOCHS,
        "planned_epochs": 90,
        "batch_size": 8,
        "schedule": "cosine",
        "label_smoothing": 0.1,
        "seed": 42,
    },
}
_TIMM_LAYOUT = {"found_in": "state_dict", "framework": "timm", "network": "timm:resnet18?num_classes=2"}
_STATE = {**ADAMW, "schedule": "step"}

HUGGING_FACE = (
    Layout("transformers, save_pretrained", "save_pretrained", _pretrained(), **TRANSFORMERS),
    Layout("transformers, in shards", "save_pretrained", _pretrained(max_shard_size="2KB"), **TRANSFORMERS),
    Layout("transformers, float16", "save_pretrained", _pretrained(lambda: bert().half()), **TRANSFORMERS),
    Layout("transformers, tied embeddings", "save_pretrained", _tied, **TRANSFORMERS),
    Layout("transformers, pytorch_model.bin", "torch.save, as transformers 4 did", _older(1), **TRANSFORMERS),
    Layout("transformers, pytorch_model.bin in shards", "torch.save, as transformers 4 did", _older(2), **TRANSFORMERS),
    Layout(
        "transformers, config.json with the name of published weights",
        "save_pretrained, as transformers 4 did",
        _named("google/bert_uncased_L-2_H-128_A-2"),
        fine_tuned_from="google/bert_uncased_L-2_H-128_A-2",
        **TRANSFORMERS,
    ),
    Layout(
        "transformers, config.json with a folder's name",
        "save_pretrained, as transformers 4 did",
        _named("runs/checkpoint-500"),
        **TRANSFORMERS,
    ),
    Layout("Trainer, a checkpoint", "Trainer.train", _checkpoint(12), recipe=TRAINED, **TRANSFORMERS),
    Layout(
        "Trainer, the weights in a checkpoint",
        "Trainer.train",
        _checkpoint(12, "model.safetensors"),
        recipe=TRAINED,
        **TRANSFORMERS,
    ),
    Layout(
        "Trainer, a checkpoint, smoothed labels",
        "Trainer.train",
        _checkpoint(12, label_smoothing_factor=0.1),
        recipe={**TRAINED, "label_smoothing": 0.1},
        **TRANSFORMERS,
    ),
    Layout(
        "Trainer, its folder, the best of several",
        "Trainer.save_model, save_state",
        _final,
        recipe=TRAINED,
        **TRANSFORMERS,
    ),
    Layout(
        "Trainer, weights and arguments alone",
        "Trainer.save_model",
        _weights_saved,
        recipe={**ARGUMENTS, "epochs": EPOCHS},
        **TRANSFORMERS,
    ),
    Layout(
        "accelerate, weights",
        "Accelerator.save_model",
        accelerated(lambda accelerator, model, path: accelerator.save_model(model, path)),
    ),
    Layout(
        "accelerate, weights in shards",
        "Accelerator.save_model",
        accelerated(lambda accelerator, model, path: accelerator.save_model(model, path, max_shard_size="0.1KB")),
    ),
    Layout(
        "accelerate, the whole state",
        "Accelerator.save_state",
        accelerated(lambda accelerator, _, path: accelerator.save_state(path)),
        recipe=_STATE,
        **ACCELERATE,
    ),
    Layout(
        "accelerate, the whole state, pickled",
        "Accelerator.save_state",
        accelerated(lambda accelerator, _, path: accelerator.save_state(path, safe_serialization=False)),
        recipe=_STATE,
        **ACCELERATE,
    ),
    Layout(
        "timm", "torch.save, the dict of CheckpointSaver", timm_style("state_dict", False), recipe=_TIMM, **_TIMM_LAYOUT
    ),
    Layout(
        "timm, fine-tuned, with an average",
        "torch.save, the dict of CheckpointSaver",
        timm_style("state_dict", True),
        others=("state_dict_ema",),
        recipe=_TIMM,
        fine_tuned_from="pretrained weights (args.pretrained)",
        **_TIMM_LAYOUT,
    ),
)
