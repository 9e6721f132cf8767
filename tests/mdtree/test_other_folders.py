"""Folders whose weights cannot be read as they stand: a sentence says what they are and what to give."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from saved_folders import equal, put, refusal

from mdtree.reading.checkpoint_folder import read_checkpoint_folder


def test_an_adapter_is_not_a_network(tmp_path: Path) -> None:
    put(tmp_path, "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')

    assert refusal(tmp_path) == (
        "FOLDER holds an adapter (LoRA, PEFT): changes to a network, not its weights; expected the weights of the "
        "whole network; merge it first: model.merge_and_unload().save_pretrained(FOLDER)"
    )
    put(tmp_path, "model.safetensors", content={"w": torch.ones(1)})
    assert equal(read_checkpoint_folder(tmp_path).content, {"w": torch.ones(1)})


@pytest.mark.parametrize(
    ("index", "kind"),
    [("model_index.json", "diffusers pipeline"), ("modules.json", "folder of sentence-transformers")],
)
def test_a_pipeline_of_several_networks(tmp_path: Path, index: str, kind: str) -> None:
    put(tmp_path, "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / index).write_text("{}")
    (tmp_path / "unet" / "config.json").write_text('{"sample_size": 8}')

    assert refusal(tmp_path) == (
        f"FOLDER is a {kind}: several networks (text_encoder, unet); expected the folder of one; give FOLDER/unet"
    )
    assert read_checkpoint_folder(tmp_path / "unet").beside == {"config.json": {"sample_size": 8}}


def test_deepspeed_with_whole_weights_names_their_file(tmp_path: Path) -> None:
    for step in (9, 10):
        put(
            tmp_path,
            f"global_step{step}/mp_rank_00_model_states.pt",
            f"global_step{step}/zero_pp_rank_0_optim_states.pt",
        )

    assert refusal(tmp_path) == (
        "FOLDER is a checkpoint of DeepSpeed; expected the file with the weights; "
        "give FOLDER/global_step10/mp_rank_00_model_states.pt"
    )


@pytest.mark.parametrize("inner", ["", "global_step5", "checkpoint"])
def test_deepspeed_that_spreads_its_weights_names_the_script(tmp_path: Path, inner: str) -> None:
    put(tmp_path, "global_step5/zero_pp_rank_0_mp_rank_00_model_states.pt", "checkpoint/zero_pp_rank_0_model_states.pt")
    (tmp_path / "zero_to_fp32.py").touch()

    message = refusal(tmp_path / inner).replace(str(tmp_path), "ROOT").replace("FOLDER", "ROOT" if not inner else "DIR")
    assert message.endswith(
        " is a checkpoint of DeepSpeed ZeRO stage 3, which spreads every weight over all processes; "
        "expected whole weights; put them together: python ROOT/zero_to_fp32.py ROOT OUTPUT, then give OUTPUT"
    )


def test_deepspeed_in_tensor_parallel_parts(tmp_path: Path) -> None:
    put(tmp_path, "mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt")

    assert refusal(tmp_path).startswith("FOLDER is a checkpoint of DeepSpeed in 2 tensor-parallel parts (mp_rank_00_")


def test_several_checkpoints_are_listed(tmp_path: Path) -> None:
    put(tmp_path, *(f"epoch{number}.pt" for number in range(7)))

    assert refusal(tmp_path) == (
        "FOLDER holds 7 checkpoints (epoch0.pt, epoch1.pt, epoch2.pt, epoch3.pt, epoch4.pt and 2 more); expected one; "
        "give one of them, such as FOLDER/epoch6.pt"
    )


@pytest.mark.parametrize(
    ("file", "mend"),
    [
        ("version_0/checkpoints/epoch=1.ckpt", "give FOLDER/version_0/checkpoints"),
        ("a/model.safetensors", "give FOLDER/a"),
        ("a/b/c/d/model.safetensors", "give the checkpoint itself"),
        ("training.log", "give the checkpoint itself"),
    ],
)
def test_a_folder_without_weights_names_those_below(tmp_path: Path, file: str, mend: str) -> None:
    put(tmp_path, file)

    assert refusal(tmp_path) == (
        "FOLDER holds no weights; expected a folder with model.safetensors, pytorch_model.bin, .metadata or one "
        f"checkpoint file; {mend}"
    )


def test_an_empty_folder_a_file_and_nothing_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()

    assert refusal(tmp_path / "empty").startswith("FOLDER is empty; expected a folder with model.safetensors")
    assert refusal(tmp_path / "file") == "FOLDER cannot be read (not a directory); expected a folder with weights in it"
    assert refusal(tmp_path / "gone").startswith("FOLDER cannot be read (no such file or directory); expected")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tf_model.h5", "FOLDER holds weights in formats that are not read (tf_model.h5); expected model.safetensors"),
        ("llama.gguf", "FOLDER holds weights in formats that are not read (llama.gguf); expected model.safetensors"),
        ("__0_0.distcp", "FOLDER is a distributed checkpoint without its .metadata: the save or the copy did not"),
        ("__0.metadata", "FOLDER is a distributed checkpoint that every process wrote for itself (__0.metadata)"),
    ],
)
def test_folders_that_are_known_and_not_read(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(0))

    assert refusal(tmp_path).startswith(message)


def test_hostile_names_stay_on_one_line(tmp_path: Path) -> None:
    put(tmp_path, "a\n\x1b[31m.pt", "b\n.pt")

    assert refusal(tmp_path) == (
        r"FOLDER holds 2 checkpoints ('a\n\x1b[31m.pt', 'b\n.pt'); expected one; "
        r"give one of them, such as FOLDER/'b\n.pt'"
    )


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)

    assert refusal(tmp_path).endswith("give the checkpoint itself")
