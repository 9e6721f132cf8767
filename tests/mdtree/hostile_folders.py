"""Folders that are damaged or want to do harm, and paths at which no regular file stands."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from hostile_pickles import EXECUTING, STATE, beside_weights, saved

Build = Callable[[Path, str], Path]
"""Makes files in a folder, with payloads that would create the marker named; gives back the path to open."""

MALICIOUS = "it is malicious or damaged, and nothing in it was run"


def runs(marker: str) -> bytes:
    return EXECUTING["os.system"][0](marker)


def _fifo(folder: Path, _: str) -> Path:
    os.mkfifo(folder / "pipe.pt")
    return folder / "pipe.pt"


def _device(folder: Path, _: str) -> Path:
    (folder / "weights.pt").symlink_to("/dev/zero")
    return folder / "weights.pt"


def _socket(folder: Path, _: str) -> Path:
    here = os.open(".", os.O_RDONLY)
    try:  # a socket's path may have no more than about 100 letters
        os.chdir(folder)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("weights.pt")
    finally:
        os.fchdir(here)
        os.close(here)
    return folder / "weights.pt"


def _loop(folder: Path, _: str) -> Path:
    (folder / "a.pt").symlink_to("b.pt")
    (folder / "b.pt").symlink_to("a.pt")
    return folder / "a.pt"


def _nowhere(folder: Path, _: str) -> Path:
    (folder / "a.pt").symlink_to("not/there.pt")
    return folder / "a.pt"


def _folder_loop(folder: Path, _: str) -> Path:
    (folder / "model").symlink_to(folder, target_is_directory=True)
    return folder


SPECIAL: dict[str, tuple[Build, str]] = {
    "named pipe": (_fifo, "is a named pipe; expected a regular file"),
    "a device behind a link": (_device, "is a device; expected a regular file"),
    "socket": (_socket, "is a socket; expected a regular file"),
    "links in a circle": (_loop, "cannot be read .*(symbolic links|loop)"),
    "a link to nowhere": (_nowhere, "does not exist"),
    "an empty folder": (lambda folder, _: folder, "is empty; expected a folder with"),
    "a folder that holds itself": (_folder_loop, "holds no weights; expected a folder with"),
}


def good(folder: Path) -> Path:
    safetensors.torch.save_file(STATE, folder / "model.safetensors")
    return folder


def weights_and(**files: str | bytes) -> Build:
    """Good weights, and these files beside them."""

    def build(folder: Path, _: str) -> Path:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (folder / name.replace("__", ".")).write_bytes(data)
        return good(folder)

    return build


def _running_beside(name: str) -> Build:
    def build(folder: Path, marker: str) -> Path:
        (folder / name).write_bytes(beside_weights(runs(marker)))
        return good(folder)

    return build


def _pipe_beside(name: str) -> Build:
    def build(folder: Path, _: str) -> Path:
        os.mkfifo(folder / name)
        return good(folder)

    return build


def _remote_code(folder: Path, marker: str) -> Path:
    """A configuration that names code in the folder, as ``trust_remote_code=True`` would run it."""
    code = f"open({marker!r}, 'w')\n"
    for name in ("modeling_evil.py", "configuration_evil.py", "__init__.py", "conftest.py", "sitecustomize.py"):
        (folder / name).write_text(code)
    config = {
        "model_type": "evil",
        "architectures": ["EvilModel"],
        "auto_map": {
            "AutoConfig": "configuration_evil.Evil",
            "AutoModelForSequenceClassification": "modeling_evil.Evil",
        },
        "trust_remote_code": True,
        "_name_or_path": f"$(touch {marker})",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "pyproject.toml").write_text('[tool.mdtree]\nmodel = "modeling_evil:Evil"\n')
    return good(folder)


def _hostile_trainer_state() -> str:
    return (
        json.dumps({"global_step": -(10**30), "epoch": 1e308, "log_history": [{"loss": "x", "learning_rate": [1]}] * 3})
        + " "
    )


BESIDE: dict[str, tuple[Build, str]] = {
    "training_args.bin that runs code": (_running_beside("training_args.bin"), "training_args.bin"),
    "scheduler.pt that runs code": (_running_beside("scheduler.pt"), "scheduler.pt"),
    "optimizer.pt that runs code": (_running_beside("optimizer.pt"), "optimizer.pt"),
    "training_args.bin that is a pipe": (_pipe_beside("training_args.bin"), "training_args.bin"),
    "config.json that is a pipe": (_pipe_beside("config.json"), "config.json"),
    "config.json that names code": (_remote_code, "safetensors, written by transformers"),
    "config.json of 20 MB": (weights_and(config__json="[" + "1," * 10 * 2**20 + "1]"), "config.json"),
    "config.json 100,000 lists deep": (weights_and(config__json="[" * 100_000 + "]" * 100_000), "config.json"),
    "config.json with NaN": (
        weights_and(config__json='{"num_labels": NaN, "model_type": "bert"}'),
        "2 tensors, 8 numbers",
    ),
    "config.json that is no JSON": (weights_and(config__json="model_type: bert\n"), "config.json"),
    "config.json that is a list": (weights_and(config__json="[1, 2, 3]"), "2 tensors, 8 numbers"),
    "config.json of a million digits": (weights_and(config__json='{"a": ' + "9" * 1_000_000 + "}"), "config.json"),
    "trainer_state.json of nonsense": (
        weights_and(trainer_state__json=_hostile_trainer_state()),
        "2 tensors, 8 numbers",
    ),
    "trainer_state.json that is a number": (weights_and(trainer_state__json="7"), "2 tensors, 8 numbers"),
    "a link from config.json to /etc/passwd": (
        lambda folder, _: (os.symlink("/etc/passwd", folder / "config.json"), good(folder))[1],
        "config.json",
    ),
}
"""Weights that are good, and beside them what is not: the weights are opened, and a note tells what was left out."""


def _indexed(weight_map: object, kind: str = "safetensors", shards: dict[str, bytes] | None = None) -> Build:
    def build(folder: Path, _: str) -> Path:
        name = "model.safetensors.index.json" if kind == "safetensors" else "pytorch_model.bin.index.json"
        (folder / name).write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": weight_map}))
        for shard, data in (shards or {}).items():
            (folder / shard).write_bytes(data)
        return folder

    return build


WHOLE = safetensors.torch.save(STATE)


def _outside(folder: Path, marker: str) -> Path:
    """A shard that lies beside the folder, and not in it."""
    inner = folder / "model"
    inner.mkdir()
    (folder / "secret.safetensors").write_bytes(WHOLE)
    return _indexed(dict.fromkeys(STATE, "../secret.safetensors"))(inner, marker)


def _index_in_pieces(folder: Path, marker: str) -> Path:
    parts = {"a.bin": saved({"weight": STATE["weight"]}), "b.bin": beside_weights(runs(marker))}
    return _indexed({"weight": "a.bin", "bias": "b.bin"}, "bin", parts)(folder, marker)


def _pipe_shard(folder: Path, marker: str) -> Path:
    os.mkfifo(folder / "a.safetensors")
    return _indexed(dict.fromkeys(STATE, "a.safetensors"))(folder, marker)


def _device_shard(folder: Path, marker: str) -> Path:
    (folder / "a.safetensors").symlink_to("/dev/zero")
    return _indexed(dict.fromkeys(STATE, "a.safetensors"))(folder, marker)


def _hostile_single(folder: Path, marker: str) -> Path:
    (folder / "pytorch_model.bin").write_bytes(beside_weights(runs(marker)))
    return folder


def _many_shards(folder: Path, marker: str) -> Path:
    """Ten thousand shards of five tensors, one of them cut: looking through the whole index for each takes minutes."""
    shard = safetensors.torch.save({f"0000.{m}": torch.ones(2) for m in range(5)})
    shards = {f"{n:04}.safetensors": shard.replace(b"0000.", b"%04d." % n) for n in range(10_000)}
    shards["9999.safetensors"] = shard[:-1]
    weight_map = {f"{n:04}.{m}": f"{n:04}.safetensors" for n in range(10_000) for m in range(5)}
    return _indexed(weight_map, "safetensors", shards)(folder, marker)


def _plain_file(name: str, data: bytes) -> Build:
    def build(folder: Path, _: str) -> Path:
        (folder / name).write_bytes(data)
        return folder

    return build


def _many_files(folder: Path, _: str) -> Path:
    for number in range(3000):
        (folder / f"epoch\x1b[31m{number}.pt").touch()
    return folder


SHARDS: dict[str, tuple[Build, str]] = {
    "a shard outside the folder": (_outside, r"names \.\./secret.safetensors; expected files inside"),
    "a shard with an absolute path": (
        _indexed(dict.fromkeys(STATE, "/etc/passwd")),
        "names /etc/passwd; expected files inside",
    ),
    "a shard on another machine": (
        _indexed(dict.fromkeys(STATE, "\\\\host\\share\\a.safetensors")),
        "expected files inside",
    ),
    "a shard with a name of zeros": (_indexed(dict.fromkeys(STATE, "a\x00.safetensors")), "names 'a.x00.safetensors'"),
    "a shard whose name forges a line": (
        _indexed(dict.fromkeys(STATE, "a\n\x1b[2Kmdtree: fine")),
        r"names 'a\\n\\x1b\[2K",
    ),
    "a shard with a name of a million letters": (_indexed(dict.fromkeys(STATE, "a" * 1_000_000)), "a{100}"),
    "a shard that is the folder": (_indexed(dict.fromkeys(STATE, ".")), "is a folder"),
    "a shard that is the index": (_indexed(dict.fromkeys(STATE, "model.safetensors.index.json")), "is a text file"),
    "a shard that is missing": (
        _indexed(dict.fromkeys(STATE, "a.safetensors")),
        "a.safetensors does not exist, but .* names it",
    ),
    "a shard that is a pipe": (_pipe_shard, "is a named pipe; expected a regular file"),
    "a shard that is a device": (_device_shard, "is a device; expected a regular file"),
    "a shard that runs code": (_index_in_pieces, f"asks to call posix.system: {MALICIOUS}"),
    "a shard that is cut": (
        _indexed(dict.fromkeys(STATE, "a.safetensors"), shards={"a.safetensors": WHOLE[:-9]}),
        "is truncated or damaged",
    ),
    "an index that names too much": (
        _indexed(dict.fromkeys([*STATE, "more"], "a.safetensors"), shards={"a.safetensors": WHOLE}),
        "lacks more, against model.safetensors.index.json",
    ),
    "an index that names too little": (
        _indexed({"bias": "a.safetensors"}, shards={"a.safetensors": WHOLE}),
        "holds weight, against model.safetensors.index.json",
    ),
    "an index of 1,000,000 tensors": (
        _indexed({f"t{n}": "a.safetensors" for n in range(300_000)}),
        "lists 300,000 tensors|bytes; expected at most",
    ),
    "an index of 20,000 shards": (_indexed({f"t{n}": f"{n}.safetensors" for n in range(20_000)}), "20,000 files"),
    "an index of 10,000 shards": (_many_shards, "9999.safetensors is truncated or damaged"),
    "an index without a map": (
        _plain_file("model.safetensors.index.json", b'{"weight_map": 3}'),
        "does not tell which file holds which tensor",
    ),
    "an index that is no JSON": (_plain_file("model.safetensors.index.json", b"{'weight_map'"), "JSON|json"),
    "an index 100,000 dicts deep": (_plain_file("model.safetensors.index.json", b'{"a":' * 100_000), "JSON|json"),
    "pytorch_model.bin that runs code": (_hostile_single, f"asks to call posix.system: {MALICIOUS}"),
    "model.safetensors that is cut": (
        _plain_file("model.safetensors", WHOLE[:-9]),
        "model.safetensors is truncated or damaged",
    ),
    "an adapter alone": (_plain_file("adapter_config.json", b"{}"), "holds an adapter"),
    "3,000 files with escapes in their names": (_many_files, r"holds 3000 checkpoints \('epoch\\x1b\[31m0.pt'"),
}
