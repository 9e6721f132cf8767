"""Random cuts and flipped bits: a damaged checkpoint is refused, or its weights are what they were.

A zip file of torch.save carries a checksum for each member. Safetensors and files of torch.save before 1.6 carry none:
there a flipped bit in the numbers themselves cannot be seen, and all that can be promised is that the SHA-256 of the
file is reported, and that a name or shape that changed does not pass for a weight of the network.

``MDTREE_FUZZ_ROUNDS=2000`` makes more rounds than the 200 of every test run.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import os
import pickle
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hostile_pickles import STATE, old_parts, saved
from hostile_reader import forget_the_peak, memory
from torch import Tensor, nn

from mdtree.checkpoint import load_into, open_checkpoint
from mdtree.errors import InputError

ROUNDS = int(os.environ.get("MDTREE_FUZZ_ROUNDS", "200"))
SECONDS = 10


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7), nn.ReLU(), nn.Linear(7, 3))


def trained() -> dict[str, object]:
    """What a training loop saves: weights, and the state of an optimizer that has made a step."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    model(torch.randn(8, 5)).square().sum().backward()
    optimizer.step()
    schedule.step()
    return {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "epoch": 3,
    }


def lightning() -> dict[str, object]:
    """The keys of a ``.ckpt`` of Lightning, with hyper-parameters that are no plain values."""
    content = trained()
    return {
        "epoch": 3,
        "global_step": 60,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": content["state_dict"],
        "optimizer_states": [content["optimizer"]],
        "lr_schedulers": [content["schedule"]],
        "hparams_name": "args",
        "hyper_parameters": {"args": argparse.Namespace(lr=0.01, batch_size=32, path=Path("runs/1"))},
    }


def original(kind: str) -> bytes:
    if kind == "safetensors":
        state = trained()["state_dict"]
        assert isinstance(state, dict)
        return safetensors.torch.save(state, {"format": "pt"})
    if kind == "old":
        return b"".join(numbered(old_parts(trained())))
    return saved(lightning() if kind == "lightning" else trained())


def numbered(parts: list[bytes]) -> list[bytes]:
    """An old file names and orders its storages by where they were in memory: here by where they are named first."""
    content, keys, stored = parts[3], pickle.loads(parts[4]), parts[5]  # made a line ago
    blocks, place = {}, 0
    for key in keys:  # a count of 8 bytes, and so many numbers in single precision
        length = 8 + 4 * int.from_bytes(stored[place : place + 8], "little")
        blocks[key] = stored[place : place + length]
        place += length
    assert place == len(stored)
    order = sorted(keys, key=lambda key: content.index(key.encode()))
    names = {key: f"{number:0{len(key)}}" for number, key in enumerate(order)}
    for key, name in names.items():
        content = content.replace(key.encode(), name.encode())
    listed = pickle.dumps([names[key] for key in order], 2)
    return [*parts[:3], content, listed, b"".join(blocks[key] for key in order)]


def payload_of(kind: str, data: bytes) -> int:
    """From where on a file holds numbers that no checksum covers; its end where all is covered."""
    if kind == "safetensors":
        return 8 + int.from_bytes(data[:8], "little")
    return len(b"".join(numbered(old_parts(trained()))[:5])) if kind == "old" else len(data)


def damaged(data: bytes, generator: random.Random) -> tuple[bytes, list[int]]:
    """A cut, or one to three flipped bits; and the places of these."""
    if generator.random() < 0.3:
        return data[: generator.randrange(len(data))], []
    changed = bytearray(data)
    places = [generator.randrange(len(data)) for _ in range(generator.choice((1, 1, 1, 2, 3)))]
    if generator.random() < 0.4:  # the ends hold the headers and the directory, and little else is as delicate
        near = min(len(data), 1500)
        places[0] = generator.choice((generator.randrange(near), len(data) - 1 - generator.randrange(near)))
    for place in places:
        changed[place] ^= 1 << generator.randrange(8)
    return bytes(changed), places


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def too_long(*_: object) -> None:
        raise AssertionError(f"more than {seconds} seconds")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(a[n].dtype is b[n].dtype and torch.equal(a[n], b[n]) for n in a)


def outcome(path: Path, good: dict[str, Tensor]) -> str:
    """What became of a damaged file: "refused", "same", "does not fit", or "other weights"."""
    try:
        state = open_checkpoint(path).state
    except InputError as error:
        return "refused" if "\n" not in str(error) else "refused in several lines"
    if equal(state, good):
        return "same"
    try:
        model = load_into(network(), state, path)
    except InputError:
        return "does not fit"
    return "same" if equal(model.state_dict(), good) else "other weights"


@pytest.mark.parametrize("kind", ["torch.save", "old", "safetensors", "lightning"])
def test_damage_is_refused_or_does_no_harm(tmp_path: Path, kind: str) -> None:
    data, path = original(kind), tmp_path / "x.ckpt"
    path.write_bytes(data)
    good = copy.deepcopy(open_checkpoint(path).state)
    assert len(good) == 6
    payload, counts, base = payload_of(kind, data), Counter[str](), memory("VmRSS")
    forget_the_peak()
    for number in range(ROUNDS // 4):
        changed, places = damaged(data, random.Random(f"{kind} {number}"))
        path.write_bytes(changed)
        with time_limit(SECONDS):
            what = outcome(path, good)
        counts[what] += 1
        allowed = {"refused", "same"}
        if kind in ("old", "safetensors"):
            allowed.add("does not fit")
        if any(place >= payload for place in places):
            allowed.add("other weights")
        assert what in allowed, f"round {number}: {what}, bits at {places} of {len(data)}"
        assert what == "refused" or len(changed) == len(data), f"round {number}: a file cut at {len(changed)} opens"
    print(f"{kind}: {dict(counts)}")
    assert memory("VmHWM") - base < 512 * 2**20
    assert counts["refused"] > ROUNDS // 16


@pytest.mark.parametrize("kind", ["old", "safetensors"])
def test_without_a_checksum_the_digest_tells(tmp_path: Path, kind: str) -> None:
    """A flipped bit in the numbers opens as another checkpoint, told from the one that was saved by its SHA-256."""
    data, path = bytearray(original(kind)), tmp_path / "x.pt"
    data[-2] ^= 1
    path.write_bytes(data)
    opened = open_checkpoint(path)
    assert opened.sha256 == hashlib.sha256(data).hexdigest() != hashlib.sha256(original(kind)).hexdigest()
    assert any("checksum" in note for note in (*opened.notes, *opened.file_notes))


def uncovered(kind: str) -> tuple[bytes, range]:
    """A small file, and the places in it that no checksum covers but that are no numbers either."""
    if kind == "torch.save":
        data = saved()
        return data, range(int.from_bytes(data[-6:-2], "little"), len(data))  # the archive's directory
    data = b"".join(numbered(old_parts())) if kind == "old" else safetensors.torch.save(STATE)
    header = 8 + int.from_bytes(data[:8], "little")
    return data, range(len(b"".join(old_parts()[:5])) if kind == "old" else header)


@pytest.mark.parametrize("kind", ["torch.save", "old", "safetensors"])
def test_no_single_bit_outside_the_numbers_passes(tmp_path: Path, kind: str) -> None:
    """A directory that calls a member a folder (torch then reads nothing of it), strides that read a number twice."""
    data, places = uncovered(kind)
    path, refused = tmp_path / "x.pt", 0
    for place in places:
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            try:
                state = open_checkpoint(path).state
            except InputError:
                refused += 1
                continue
            fits = set(state) == set(STATE) and all(state[name].shape == STATE[name].shape for name in STATE)
            seen = kind != "torch.save" and not fits
            assert seen or all(torch.equal(state[n], STATE[n]) for n in STATE), f"bit {bit} at {place} of {len(data)}"
    assert refused > 4 * len(places)
