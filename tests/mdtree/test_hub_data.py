"""Data sets of Hugging Face's `datasets` on this disk: saved, in a folder of files, cached; never the network."""

from __future__ import annotations

import io
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from real_text import TOPICS, docstring_sentences, save_word_pieces

from mdtree.data import load_data
from mdtree.errors import InputError

NAMES = sorted(TOPICS)
TEXTS = docstring_sentences(30)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment allows: a connection, or a look for a host, ends the test."""

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)


def sentences(start: int, stop: int) -> datasets.Dataset:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=NAMES[::-1])})
    rows = {"text": [t for t, _ in TEXTS[start:stop]], "label": [NAMES[::-1].index(n) for _, n in TEXTS[start:stop]]}
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentences saved by `save_to_disk` in ``saved``, as parquet in ``files``, and the tokenizer in ``tok``."""
    folder = tmp_path_factory.mktemp("hub")
    parts = datasets.DatasetDict(
        {"train": sentences(0, 80), "validation": sentences(80, 100), "test": sentences(100, 120)}
    )
    parts.save_to_disk(folder / "saved")
    (folder / "files" / "data").mkdir(parents=True)
    parts["train"].select(range(50)).to_parquet(folder / "files" / "data" / "train-00000-of-00002.parquet")
    parts["train"].select(range(50, 80)).to_parquet(folder / "files" / "data" / "train-00001-of-00002.parquet")
    parts["test"].to_parquet(folder / "files" / "data" / "test-00000-of-00001.parquet")
    save_word_pieces(folder / "tok", [text for text, _ in TEXTS[:80]], 300)
    return folder


def refusal(spec: str, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_data(spec, folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def rows_of(data: Any) -> set[tuple[Any, ...]]:
    ids = data.x_train["input_ids"].tolist()
    return {(*row, label) for row, label in zip(ids, data.y_train.tolist(), strict=True)}


def test_saved_files_and_cached_give_the_same_inputs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    data_files = {"train": str(folder / "files/data/train-*"), "test": str(folder / "files/data/test-*")}
    builder = datasets.load_dataset_builder("parquet", data_files=data_files, cache_dir=str(tmp_path / "made"))
    builder.download_and_prepare()
    cached = tmp_path / "somebody___topic_words" / "default" / "0.0.0" / "0123abcd"
    cached.parent.mkdir(parents=True)
    Path(builder.cache_dir).rename(cached)

    options = "tokenizer=tok&max_length=20&padding=max_length"
    saved = load_data(f"hf:saved?{options}&test_split=test", folder)
    files = load_data(f"hf:files?{options}", folder)
    found = load_data(f"hf:somebody/TopicWords?{options}", folder)
    assert saved.num_classes == 4
    for data in (files, found):
        assert rows_of(data) == rows_of(saved)
        assert data.class_counts == saved.class_counts
        assert sorted(data.x_test["input_ids"].tolist()) == sorted(saved.x_test["input_ids"].tolist())
    assert (saved.name, files.name, found.name) == ("saved", "files", "somebody/TopicWords")
    assert found.notes[0] == (
        f"somebody/TopicWords, cached in {cached}: the part train is trained on, the part test is the test set"
    )


def test_parts_cached_in_several_files_and_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The version that was written last counts."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    kept = tmp_path / "words" / "default" / "0.0.0" / "abc"
    kept.mkdir(parents=True)
    (kept / "dataset_info.json").write_text("{}")
    for name, part in {
        "words-train-00000-of-00002": sentences(0, 30),
        "words-train-00001-of-00002": sentences(30, 50),
        "words-test": sentences(50, 60),
        "cache-0123-train": sentences(60, 80),  # what `map` leaves behind
    }.items():
        part.save_to_disk(tmp_path / "made" / name)
        (tmp_path / "made" / name / "data-00000-of-00001.arrow").rename(kept / f"{name}.arrow")
    data = load_data(f"hf:words?tokenizer={folder / 'tok'}", tmp_path / "made")
    assert (len(data.y_train), len(data.y_test), data.num_classes) == (50, 10, 4)
    other = kept.parent.parent / "1.0.0" / "def"
    shutil.copytree(kept, other)
    (other / "words-train-00001-of-00002.arrow").unlink()
    for newer, count in ((kept, 50), (other, 30)):
        for place in (kept, other):
            os.utime(place, (1e9, 1e9 + (place == newer)))
        assert len(load_data(f"hf:words?tokenizer={folder / 'tok'}", tmp_path / "made").y_train) == count


def test_class_names_of_the_data_set_keep_their_order_and_guesses_are_said(folder: Path) -> None:
    data = load_data("hf:saved?tokenizer=tok&train=40", folder)
    assert data.notes[:4] == (
        f"saved, saved in {folder / 'saved'}: the part train is trained on, the part validation is the test set",
        "the labels are taken from the column label",
        "the inputs are taken from the column text",
        "the classes are numbered as in the data set: 0 testing, 1 numbers, 2 email, 3 asyncio",
    )
    counts = [sum(name == topic for _, name in TEXTS[:80]) for topic in NAMES[::-1]]
    assert load_data("hf:saved?tokenizer=tok", folder).class_counts == tuple(counts)
    assert (data.class_counts, len(data.y_test), data.train_size_full) == ((10, 10, 10, 10), 20, 80)
    named = load_data("hf:saved?tokenizer=tok&text=text&label=label", folder)
    assert not [note for note in named.notes if "are taken from" in note]


def test_parts(folder: Path) -> None:
    assert load_data("hf:saved?tokenizer=tok&test_split=none", folder).x_test is None
    held = load_data("hf:saved?tokenizer=tok&held_out=0.25", folder)
    assert (len(held.y_train), len(held.y_test)) == (60, 20)
    assert len(load_data("hf:saved?tokenizer=tok&split=test&test_split=train", folder).y_train) == 20
    assert refusal("hf:saved?tokenizer=tok&split=dev", folder) == (
        f"saved (saved in {folder / 'saved'}) has no part 'dev'; expected one of train, validation, test"
    )
    assert refusal("hf:saved?tokenizer=tok&split=test&test_split=test", folder).endswith(
        "; expected two different parts"
    )
    one = datasets.Dataset.from_dict({"text": ["a", "b"], "labels": [0, 1]})
    one.save_to_disk(folder / "one")
    assert len(load_data("hf:one?tokenizer=tok", folder).y_train) == 2


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (
            {"a": ["x"], "b": ["y"], "label": [0]},
            "",
            "which column of d is the text? There are several columns that may",
        ),
        (
            {"n": [1], "label": [0]},
            "",
            "which column of d is the text? There are none that can be told; expected text=",
        ),
        (
            {"text": ["x"], "y": [0]},
            "",
            "which column of d is the label? There are none that can be told; expected label=",
        ),
        ({"text": ["x"], "label": [0], "labels": [0]}, "", "which column of d is the label? There are several columns"),
        ({"text": ["x"], "label": [0]}, "&text=body", "d has no column 'body'; expected one of text, label"),
        ({"text": ["x", "y"], "label": [-1, -1]}, "", "2 of 2 labels of d are -1: a part without labels; expected a"),
        ({"text": ["x", ""], "label": [0, 1]}, "", "the column text of d has no text in row 2"),
        ({"text": ["x", "y"], "label": [0, 1]}, "&image=text", "the column text of d holds no pictures; expected"),
        ({"text": ["x", "y"], "label": [0, 1]}, "&size=8", "size=8 of hf without pictures; expected no size"),
        ({"text": ["x", "y"], "label": [0, 1]}, "&image=text&text=text", "image and text of hf; expected one of them"),
    ],
)
def test_refused_columns(table: dict[str, list[Any]], options: str, message: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    pq.write_table(pa.table(table), tmp_path / "d" / "all.parquet")
    tokenizer = "" if options == "&image=text" else f"tokenizer={folder / 'tok'}"
    assert refusal(f"hf:d?{tokenizer}{options}".replace("?&", "?"), tmp_path).startswith(message)


def test_what_is_not_here_is_said_and_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    assert refusal("hf:stanfordnlp/imdb", tmp_path) == (
        f"stanfordnlp/imdb is no folder and is not in the cache {tmp_path / 'cache'}; nothing is downloaded; "
        "expected a data set that was loaded before; "
        "python -c \"import datasets; datasets.load_dataset('stanfordnlp/imdb')\""
    )
    assert "is not a folder; expected hf:DIR, or hf:NAME" in refusal("hf:s3://bucket/data", tmp_path)
    assert refusal("hf", tmp_path).startswith("hf names no data set; expected hf:NAME?split=train")
    for configuration in ("sst2", "mrpc"):
        kept = tmp_path / "cache" / "glue" / configuration / "1.0.0" / "abc"
        kept.mkdir(parents=True)
        (kept / "dataset_info.json").write_text("{}")
        (kept / "glue-train.arrow").write_bytes(b"not arrow")
    assert refusal("hf:glue", tmp_path) == (
        "the cache holds several configurations of glue; expected config= one of mrpc, sst2"
    )
    assert refusal("hf:glue?config=cola", tmp_path).startswith("the cache holds no configuration cola of glue")
    assert refusal("hf:glue?config=mrpc", tmp_path).startswith("the part train of glue cannot be read (")
    (tmp_path / "empty").mkdir()
    assert refusal("hf:empty", tmp_path).startswith(f"{tmp_path / 'empty'} holds no data set; expected one that")
    (tmp_path / "empty" / "state.json").write_text("{}")
    assert refusal("hf:empty", tmp_path).startswith(f"{tmp_path / 'empty'} cannot be read (")


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    features = datasets.Features(
        {"img": datasets.Image(), "fine": datasets.ClassLabel(names=["cat", "dog", "owl", "emu"])}
    )
    made = datasets.Dataset.from_dict({"img": [picture(n) for n in range(9)], "fine": [0, 1, 2] * 3}, features=features)
    datasets.DatasetDict({"train": made, "test": made.select(range(4))}).save_to_disk(folder / "saved")
    return folder


def test_pictures_are_prepared_as_those_of_folders(pictures: Path) -> None:
    data = load_data("hf:saved?size=4&resize=6&mean=0.5&std=0.25", pictures)
    by_hand = {}
    for n in range(9):
        pixels = np.asarray(picture(n))[1:5, 2:6].astype(np.float32) / 255
        by_hand[((pixels - 0.5) / 0.25).transpose(2, 0, 1).tobytes()] = n % 3
    assert data.x_train.shape == (9, 3, 4, 4)
    assert [by_hand[x.numpy().tobytes()] for x in data.x_train] == data.y_train.tolist()
    assert [by_hand[x.numpy().tobytes()] for x in data.x_test] == data.y_test.tolist()
    assert (data.num_classes, data.class_counts, data.input_shape) == (4, (3, 3, 3, 0), (3, 4, 4))
    assert "the inputs are taken from the column img" in data.notes
    assert "standard deviation 0.25" in data.normalisation
    assert refusal("hf:saved?tokenizer=tok", pictures) == "tokenizer=tok of hf with pictures; expected no tokenizer"


def test_pictures_in_structs_bytes_and_paths(tmp_path: Path) -> None:
    """Parquet that `datasets` did not write; a path is read from this disk, an address is not fetched."""
    held = io.BytesIO()
    picture(3).save(held, "PNG")
    picture(3).save(tmp_path / "three.png")
    expected = torch.from_numpy(np.asarray(picture(3)).transpose(2, 0, 1) / np.float32(255))

    def written(name: str, column: pa.Array) -> str:
        (tmp_path / name).mkdir()
        pq.write_table(pa.table({"image": column, "label": [0, 1]}), tmp_path / name / "all.parquet")
        return f"hf:{name}?image=image"

    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    stored = {"bytes": held.getvalue(), "path": "x.png"}
    there = {"bytes": None, "path": str(tmp_path / "three.png")}
    address = {"bytes": None, "path": "https://example.org/three.png"}
    for spec in (
        written("structs", pa.array([stored, there], struct)),
        written("plain", pa.array([held.getvalue()] * 2, pa.binary())),
    ):
        assert torch.equal(load_data(spec, tmp_path).x_train, torch.stack([expected, expected]))
    assert "holds no picture; expected PNG or JPEG bytes, or a file on this disk" in refusal(
        written("address", pa.array([stored, address], struct)), tmp_path
    )
    (tmp_path / "other").mkdir()
    Image.new("RGB", (5, 5)).save(tmp_path / "five.png")
    other = {"bytes": None, "path": str(tmp_path / "five.png")}
    message = refusal(written("sizes", pa.array([stored, other], struct)), tmp_path)
    assert "comes out as " in message
    assert message.count("×") == 2
    assert all(size in message for size in ("5×5 pixels in 3 channels", "6×8 pixels in 3 channels"))


def test_csv_files_and_labels_of_the_network(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "train.csv").write_text("words,label\none,bad\ntwo,good\n")
    (tmp_path / "d" / "validation.csv").write_text("words,label\nthree,good\n")
    (tmp_path / "classes.json").write_text('["good", "bad"]')
    data = load_data(f"hf:d?tokenizer={folder / 'tok'}&labels=classes.json", tmp_path)
    plain = load_data(f"hf:d?tokenizer={folder / 'tok'}", tmp_path)
    assert (sorted(data.y_train.tolist()), data.y_test.tolist(), plain.y_test.tolist()) == ([0, 1], [0], [1])
