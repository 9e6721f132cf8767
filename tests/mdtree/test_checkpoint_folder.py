"""Folders as real trainings leave them: the right weights, exactly, with what is beside them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import accelerate
import pytest
import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
import transformers
from saved_folders import WEIGHTS, equal, put, refusal, told
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from mdtree.reading.checkpoint_folder import files_beside, read_checkpoint_folder

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def bert() -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=40, max_position_embeddings=16, num_labels=3, **SIZES)
    return transformers.BertForSequenceClassification(config)


def vit() -> transformers.PreTrainedModel:
    torch.manual_seed(1)
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_channels=1, num_labels=10, **SIZES)
    return transformers.ViTForImageClassification(config)


def test_a_folder_of_save_pretrained(tmp_path: Path) -> None:
    model = bert()
    model.save_pretrained(tmp_path)

    contents = read_checkpoint_folder(tmp_path)

    assert equal(contents.content, model.state_dict())
    assert contents.layout == "safetensors"
    assert contents.metadata == {"format": "pt"}
    assert contents.beside["config.json"]["model_type"] == "bert"
    assert told(contents) == ()
    data = (tmp_path / "model.safetensors").read_bytes()
    assert (contents.sha256, contents.size) == (hashlib.sha256(data).hexdigest(), len(data))


def test_a_vision_transformer_and_its_image_processor(tmp_path: Path) -> None:
    model = vit()
    model.save_pretrained(tmp_path)
    processor = {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5], "size": {"height": 8, "width": 8}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))

    contents = read_checkpoint_folder(tmp_path)

    # save_pretrained gives the layers the names of older versions; the tensors are the network's own
    assert len(contents.content) == len(model.state_dict())
    assert contents.content["vit.embeddings.cls_token"].equal(model.state_dict()["vit.embeddings.cls_token"])
    assert equal(contents.content, safetensors.torch.load_file(tmp_path / "model.safetensors"))
    assert contents.beside["preprocessor_config.json"] == processor


def test_weights_in_shards(tmp_path: Path) -> None:
    model = bert()
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))

    contents = read_checkpoint_folder(tmp_path)

    assert len(shards) == 3
    assert not (tmp_path / "model.safetensors").exists()
    assert equal(contents.content, model.state_dict())
    assert contents.layout == "safetensors in 3 shards"
    assert contents.size == sum(shard.stat().st_size for shard in shards)
    lines = "".join(f"{hashlib.sha256(shard.read_bytes()).hexdigest()}  {shard.name}\n" for shard in shards)
    assert contents.sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_pickled_weights_in_shards(tmp_path: Path) -> None:
    model = bert()
    accelerate.Accelerator(cpu=True).save_model(model, tmp_path, max_shard_size="10KB", safe_serialization=False)

    contents = read_checkpoint_folder(tmp_path)

    assert (tmp_path / "pytorch_model.bin.index.json").exists()
    assert equal(contents.content, model.state_dict())
    assert contents.layout == "torch.save in 3 shards"
    assert contents.metadata is None


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    model = transformers.BertForMaskedLM(bert().config)
    model.save_pretrained(tmp_path)

    state = model.state_dict()
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    assert equal(read_checkpoint_folder(tmp_path).content, {k: v for k, v in state.items() if k not in tied})


def test_the_snapshot_of_a_hub_cache_is_made_of_links(tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path / "saved", max_shard_size="10KB")
    blobs, snapshot = tmp_path / "models--me--bert" / "blobs", tmp_path / "models--me--bert" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted((tmp_path / "saved").iterdir())):
        shutil.copy(file, blobs / f"{number}")
        (snapshot / file.name).symlink_to(Path("..") / ".." / "blobs" / f"{number}")

    assert equal(read_checkpoint_folder(snapshot).content, bert().state_dict())
    assert refusal(tmp_path / "models--me--bert").endswith("; give FOLDER/snapshots/abc")


class Samples(torch.utils.data.Dataset[dict[str, Any]]):
    """Three classes of random tokens."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> dict[str, Any]:
        tokens = torch.randint(0, 40, (8,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": tokens, "attention_mask": torch.ones(8, dtype=torch.long), "labels": index % 3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """What the Hugging Face Trainer left after six steps, and the final weights."""
    folder = tmp_path_factory.mktemp("trainer")
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        weight_decay=0.05,
        save_strategy="epoch",
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=1,
    )
    trainer = transformers.Trainer(bert(), arguments, train_dataset=Samples())
    trainer.train()
    return folder, {name: value.clone() for name, value in trainer.model.state_dict().items()}


def test_a_checkpoint_of_the_trainer(trained: tuple[Path, dict[str, Tensor]]) -> None:
    folder, state = trained[0] / "checkpoint-6", trained[1]
    contents = read_checkpoint_folder(folder)

    assert equal(contents.content, state)
    assert not equal(read_checkpoint_folder(trained[0] / "checkpoint-3").content, state)
    side = contents.beside
    assert set(side) == {"config.json", "trainer_state.json", "training_args.bin", "scheduler.pt", "optimizer.pt"}
    assert side["trainer_state.json"]["global_step"] == 6
    assert [group["weight_decay"] for group in side["optimizer.pt"]["param_groups"]] == [0.05, 0.0]
    assert set(side["optimizer.pt"]) == {"param_groups"}
    assert side["scheduler.pt"]["last_epoch"] == 6
    assert "transformers.training_args.TrainingArguments" in contents.unknown
    beside = files_beside(folder / "model.safetensors")
    assert set(beside) == set(side)
    assert beside["trainer_state.json"] == side["trainer_state.json"]


def test_an_output_folder_of_the_trainer_has_weights_of_its_own_or_names_the_last(
    trained: tuple[Path, dict[str, Tensor]], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(trained[0], folder)
    (folder / "checkpoint-6").rename(folder / "checkpoint-10")
    assert refusal(folder) == (
        "FOLDER holds 2 checkpoints of a training (checkpoint-3, checkpoint-10) and no weights of its own; "
        "expected one of them; give the last one: FOLDER/checkpoint-10"
    )

    put(folder, "model.safetensors")
    contents = read_checkpoint_folder(folder)
    assert equal(contents.content, WEIGHTS)
    assert told(contents) == (
        "the record of the training stands in checkpoint-10/trainer_state.json, which may be of other weights, "
        "and was not read",
    )


def test_damaged_and_hostile_side_files_leave_the_weights(tmp_path: Path) -> None:
    class Shouting:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'marker'}",)

    put(tmp_path, "model.safetensors")
    put(tmp_path, "training_args.bin", content=Shouting())
    (tmp_path / "trainer_state.json").write_text('{"global_step": 5')
    (tmp_path / "config.json").write_text("[" * 100_000)
    (tmp_path / "optimizer.pt").write_bytes(b"")
    (tmp_path / "preprocessor_config.json").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "eval_results.json")
    with open(tmp_path / "all_results.json", "wb") as handle:
        handle.truncate(2**24 + 1)
    put(tmp_path, "scheduler.pt", content=torch.ones(1))
    put(tmp_path, "optimizer.bin", content={"state": {}})
    (tmp_path / "tokenizer.json").write_text("not read")

    contents = read_checkpoint_folder(tmp_path)

    assert equal(contents.content, WEIGHTS)
    assert set(contents.beside) == {"scheduler.pt", "tokenizer.json"}
    assert contents.beside["tokenizer.json"] is None
    notes = {note.removeprefix(f"not read: {tmp_path}/").partition(" ")[0]: note for note in told(contents)}
    assert len(notes) == 8
    for name, words in (
        ("training_args.bin", "asks to call posix.system: it is malicious or damaged, and nothing in it was run"),
        ("trainer_state.json", "is not JSON"),
        ("config.json", "is not JSON"),
        ("optimizer.pt", "is empty: the save or the copy did not finish"),
        ("preprocessor_config.json", "does not exist"),
        ("eval_results.json", "is a named pipe"),
        ("all_results.json", "has 16,777,217 bytes"),
        ("optimizer.bin,", "which holds no parameter groups"),
    ):
        assert words in notes[name]
    assert not (tmp_path / "marker").exists()


def test_a_large_optimizer_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, "model.safetensors")
    with open(tmp_path / "optimizer.pt", "wb") as handle:
        handle.truncate(2**29 + 1)

    assert [note.replace(str(tmp_path), "") for note in told(read_checkpoint_folder(tmp_path))] == [
        "not read: /optimizer.pt, which has 536,870,913 bytes, more than the 536,870,912 that are read beside weights"
    ]


@pytest.mark.parametrize("safe", [True, False])
def test_a_state_of_accelerate_with_two_models(tmp_path: Path, safe: bool) -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    first, second = nn.Linear(3, 2), nn.Linear(4, 1)
    optimizer = torch.optim.SGD(first.parameters(), lr=0.25, momentum=0.5)
    first, second, optimizer = accelerator.prepare(first, second, optimizer)
    first(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    accelerator.save_state(tmp_path, safe_serialization=safe)

    contents = read_checkpoint_folder(tmp_path)

    assert list(contents.content) == ["model", "model_1"]
    assert equal(contents.content["model"], first.state_dict())
    assert equal(contents.content["model_1"], second.state_dict())
    (group,) = contents.beside["optimizer.bin"]["param_groups"]
    assert (group["lr"], group["momentum"]) == (0.25, 0.5)
    assert contents.beside["random_states_0.pkl"] is None
    assert contents.size == sum(
        (tmp_path / name).stat().st_size
        for name in (
            ("model.safetensors", "model_1.safetensors") if safe else ("pytorch_model.bin", "pytorch_model_1.bin")
        )
    )


def test_one_model_of_accelerate_and_its_hash_changes_with_a_second(tmp_path: Path) -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    model = accelerator.prepare(nn.Linear(3, 2))
    accelerator.save_state(tmp_path)

    alone = read_checkpoint_folder(tmp_path)
    assert equal(alone.content, model.state_dict())
    put(tmp_path, "pytorch_model_1.bin")  # of an older save
    assert read_checkpoint_folder(tmp_path).sha256 == alone.sha256
    put(tmp_path, "model_1.safetensors")
    assert read_checkpoint_folder(tmp_path).sha256 != alone.sha256


def test_sharded_weights_of_accelerate_stand_one_folder_below(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    dcp.save({"model": model.state_dict()}, checkpoint_id=tmp_path / "pytorch_model_fsdp_0")
    dcp.save({"optimizer": optimizer.state_dict()}, checkpoint_id=tmp_path / "optimizer_0")

    contents = read_checkpoint_folder(tmp_path)

    assert equal(contents.content["model"], model.state_dict())
    assert contents.layout == "distributed checkpoint"
    assert contents.beside["optimizer.bin"]["param_groups"][0]["lr"] == 0.5


def test_a_folder_of_timm_s_hub(tmp_path: Path) -> None:
    put(tmp_path, "model.safetensors", "pytorch_model.bin")
    config = {"architecture": "resnet18", "num_classes": 10, "pretrained_cfg": {"mean": [0.5, 0.5, 0.5]}}
    (tmp_path / "config.json").write_text(json.dumps(config))

    contents = read_checkpoint_folder(tmp_path)

    assert equal(contents.content, WEIGHTS)
    assert contents.beside == {"config.json": config}
    assert told(contents) == ("model.safetensors was read, not pytorch_model.bin",)


def test_torch_s_hugging_face_writer(tmp_path: Path) -> None:
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    dcp.save(dict(WEIGHTS), storage_writer=HuggingFaceStorageWriter(str(whole)))
    dcp.save(dict(WEIGHTS), storage_writer=HuggingFaceStorageWriter(str(pieces), save_distributed=True))

    assert equal(read_checkpoint_folder(whole).content, WEIGHTS)
    assert refusal(pieces) == (
        "FOLDER holds the pieces of torch's HuggingFaceStorageWriter, one for every process; "
        "expected whole tensors; save it again with enable_consolidation=True"
    )


def test_sentence_transformers_with_the_weights_at_the_top(tmp_path: Path) -> None:
    put(tmp_path, "model.safetensors", "2_Dense/model.safetensors")
    (tmp_path / "modules.json").write_text("[]")

    assert told(read_checkpoint_folder(tmp_path)) == (
        "a folder of sentence-transformers: these are the weights of its first module alone",
    )


def test_the_only_checkpoint_of_a_folder_is_taken_and_named(tmp_path: Path) -> None:
    put(tmp_path, "epoch=3.ckpt", content={"state_dict": WEIGHTS})
    put(tmp_path, "optimizer.pt", "scheduler.bin", "rng_state_0.pth", "random_states_1.pt")

    contents = read_checkpoint_folder(tmp_path)

    assert equal(contents.content["state_dict"], WEIGHTS)
    assert told(contents)[0] == "epoch=3.ckpt is the only checkpoint in the folder"


def test_damaged_weights_are_not_replaced_by_others(tmp_path: Path) -> None:
    put(tmp_path, "model.safetensors", "pytorch_model.bin")
    data = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(data[:-1])

    assert refusal(tmp_path).startswith("FOLDER/model.safetensors is truncated or damaged")


def test_files_beside_a_file_of_another_name_are_not_its_own(tmp_path: Path) -> None:
    put(tmp_path, "model.safetensors", "epoch3.pt")
    (tmp_path / "config.json").write_text("{}")

    assert files_beside(tmp_path / "model.safetensors") == {"config.json": {}}
    assert files_beside(tmp_path / "epoch3.pt") == {}
