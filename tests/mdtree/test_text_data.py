"""Texts in tables, with a tokenizer trained on real sentences: inputs by name, labels by number or name, notes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from real_text import TOPICS, docstring_sentences, save_word_pieces, write_sentences
from transformers import AutoTokenizer, BertTokenizer, GPT2Tokenizer

from mdtree.data import load_data
from mdtree.datasets.data_set import DataSet
from mdtree.errors import InputError

Rows = list[tuple[str, str]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return docstring_sentences(60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, rows: Rows) -> Path:
    """``train.csv`` (180 sentences), ``test.csv`` (the others), and the tokenizer in ``tok``."""
    folder = tmp_path_factory.mktemp("texts")
    write_sentences(folder / "train.csv", rows[:180])
    write_sentences(folder / "test.csv", rows[180:])
    save_word_pieces(folder / "tok", [text for text, _ in rows[:180]], 300)
    return folder


PLAIN = "text:train.csv?text=text&label=topic&tokenizer=tok"


def by_hand(folder: Path, texts: list[str], **options: Any) -> dict[str, torch.Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(folder / "tok", local_files_only=True)
    return dict(tokenizer(texts, truncation=True, padding=True, return_tensors="pt", **options))


def refusal(spec: str, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_data(spec, folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_inputs_are_those_of_the_tokenizer_by_name(folder: Path, rows: Rows) -> None:
    data = load_data(f"{PLAIN}&max_length=24&test_file=test.csv", folder)
    expected = by_hand(folder, [text for text, _ in rows], max_length=24)
    order = by_text(data.x_train["input_ids"], expected["input_ids"][:180])

    assert set(data.x_train) == set(expected) == {"input_ids", "attention_mask"}
    assert {x.dtype for x in data.x_train.values()} == {torch.int64}
    for name, value in expected.items():
        assert torch.equal(data.x_train[name], value[:180][order])
        assert sorted(data.x_test[name].tolist()) == sorted(value[180:].tolist())
    topics = sorted(TOPICS)
    assert data.y_train.tolist() == [topics.index(rows[place][1]) for place in order]
    assert (data.num_classes, data.name, data.train_size_full, data.test_part) == (4, "train", 180, "all")
    assert len(data.y_test) == len(rows) - 180
    assert data.normalisation == f"tokens of {type_name(folder)} of tok, texts cut at 24, padded to 24"
    assert data.notes[0] == (
        "the classes are numbered in the order of their names: 0 asyncio, 1 email, 2 numbers, 3 testing"
    )
    full = int((data.x_train["attention_mask"].sum(1) == 24).sum())
    assert data.notes[1:] == (f"{full} of 180 training texts fill all 24 tokens: longer ones are cut",)


def by_text(found: torch.Tensor, expected: torch.Tensor) -> list[int]:
    """Where in `expected` each row of `found` stands."""
    places = {tuple(row): place for place, row in enumerate(expected.tolist())}
    return [places[tuple(row)] for row in found.tolist()]


def type_name(folder: Path) -> str:
    return type(AutoTokenizer.from_pretrained(folder / "tok", local_files_only=True)).__name__


def test_padding_is_to_the_longest_text_or_to_the_length(folder: Path, rows: Rows) -> None:
    short = folder / "short.csv"
    write_sentences(short, [(text, topic) for text, topic in rows if len(text) < 40])
    spec = "text:short.csv?text=text&label=topic&tokenizer=tok"
    longest, whole = load_data(spec, folder), load_data(f"{spec}&padding=max_length&max_length=64", folder)
    mask = longest.x_train["attention_mask"]

    assert bool(mask[:, -1].any())
    assert mask.shape[1] < 64
    assert whole.x_train["input_ids"].shape[1] == 64
    assert torch.equal(whole.x_train["attention_mask"][:, : mask.shape[1]], mask)
    assert not whole.x_train["attention_mask"][:, mask.shape[1] :].any()
    assert not [note for note in longest.notes if "longer ones" in note]


def test_a_text_is_never_cut_to_the_length_of_the_others(folder: Path, tmp_path: Path) -> None:
    """The longest may stand in the test set; and padding may stand before the text."""
    write(tmp_path / "short.csv", {"text": ["a word", "two words"], "label": [0, 1]})
    write(tmp_path / "long.csv", {"text": ["a good many words that stand here to be read"], "label": [1]})
    for side in ("right", "left"):
        tokenizer = AutoTokenizer.from_pretrained(folder / "tok", local_files_only=True, padding_side=side)
        tokenizer.save_pretrained(tmp_path / side)
        data = load_data(f"text:short.csv?test_file=long.csv&tokenizer={tmp_path / side}", tmp_path)
        expected = tokenizer(["a good many words that stand here to be read"], return_tensors="pt")
        assert torch.equal(data.x_test["input_ids"], expected["input_ids"])
        mask = data.x_train["attention_mask"]
        assert mask.shape[1] == expected["input_ids"].shape[1]
        assert bool(mask[:, 0 if side == "right" else -1].all())
        assert not mask[:, -1 if side == "right" else 0].any()


def test_parts_are_chosen_as_from_all_data(folder: Path) -> None:
    """Balanced, nested, noisy labels that stay with their text, classes by number; a share held out of one file."""
    small, large = (load_data(f"{PLAIN}&max_length=16&train={n}&seed=3", folder) for n in (20, 80))
    assert small.class_counts == (5, 5, 5, 5)
    width = small.x_train["input_ids"].shape[1]
    assert torch.equal(small.x_train["input_ids"], large.x_train["input_ids"][:20, :width])
    noisy = load_data(f"{PLAIN}&max_length=16&train=80&seed=3&label_noise=0.5", folder)
    assert 0.3 < float((noisy.y_train != large.y_train).double().mean()) < 0.7
    only = load_data(f"{PLAIN}&max_length=16&only=3,1", folder)
    assert (only.num_classes, sum(only.class_counts)) == (2, only.train_size_full)
    held = load_data(f"{PLAIN}&max_length=16&held_out=0.25", folder)
    assert (len(held.y_train), len(held.y_test)) == (135, 45)
    assert "45 rows drawn by a fixed seed are the test set: right if they were not trained on" in held.notes
    assert load_data(f"{PLAIN}&max_length=16", folder).x_test is None


def write(path: Path, table: dict[str, list[Any]]) -> str:
    if path.suffix == ".parquet":
        pq.write_table(pa.table(table), path)
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(table, row, strict=True))) for row in zip(*table.values(), strict=True)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps([dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]))
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([list(table), *zip(*table.values(), strict=True)])
    return path.name


TEXTS = ['Say "yes", or no.', "Two\nlines of text", "naïve – 日本", "The last one"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_every_kind_of_file_gives_the_same_inputs(suffix: str, folder: Path) -> None:
    name = write(folder / f"small{suffix}", {"id": [9, 8, 7, 6], "body": TEXTS, "y": [2, 0, 1, 0]})
    data = load_data(f"text:{name}?text=body&label=y&tokenizer=tok", folder)
    expected = by_hand(folder, TEXTS)
    order = by_text(data.x_train["input_ids"], expected["input_ids"])
    assert sorted(order) == [0, 1, 2, 3]
    assert data.y_train.tolist() == [[2, 0, 1, 0][place] for place in order]
    assert (data.num_classes, data.class_counts) == (3, (2, 1, 1))


def test_pairs_of_texts_and_token_types(folder: Path, tmp_path: Path) -> None:
    """BERT's own tokenizer tells the second text by its token type."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "who"]
    (tmp_path / "words.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(tmp_path / "words.txt")).save_pretrained(tmp_path / "bert")
    write(
        tmp_path / "pairs.csv", {"a,b": ["x", "y"], "a": ["the cat", "who"], "b": ["sat", "the cat sat"], "y": [0, 1]}
    )
    (tmp_path / "two.csv").write_text((tmp_path / "pairs.csv").read_text().replace('"a,b"', "c"))
    options = f"?label=y&tokenizer={tmp_path / 'bert'}&text=a,b"
    data = load_data(f"text:two.csv{options}", tmp_path)
    first = data.x_train["input_ids"].tolist().index([2, 5, 6, 3, 7, 3, 0])
    tokens = {name: x[first].tolist() for name, x in data.x_train.items()}
    assert tokens == {
        "input_ids": [2, 5, 6, 3, 7, 3, 0],
        "token_type_ids": [0, 0, 0, 0, 1, 1, 0],
        "attention_mask": [1, 1, 1, 1, 1, 1, 0],
    }
    fewer = load_data(f"text:two.csv{options}&inputs=input_ids,attention_mask", tmp_path)
    assert set(fewer.x_train) == {"input_ids", "attention_mask"}
    one = load_data(f"text:pairs.csv{options}", tmp_path)  # a column of that very name is there: it is one text
    assert one.x_train["input_ids"].shape[1] == 3
    assert refusal(f"text:two.csv{options},c", tmp_path).startswith(
        "text=a,b,c of two.csv; expected one column, or two: text=premise,hypothesis"
    )


def test_a_tokenizer_file_and_one_without_padding(folder: Path, rows: Rows, tmp_path: Path) -> None:
    alone = load_data(f"{PLAIN}/tokenizer.json&max_length=20&train=8", folder)
    saved = load_data(f"{PLAIN}&max_length=20&train=8", folder)
    assert all(torch.equal(alone.x_train[name], saved.x_train[name]) for name in ("input_ids", "attention_mask"))

    words = {word: n for n, word in enumerate(["<|endoftext|>", *map(chr, range(33, 127)), "Ġ"])}
    GPT2Tokenizer(vocab=words, merges=[]).save_pretrained(tmp_path / "gpt")
    data = load_data(f"text:train.csv?text=text&label=topic&tokenizer={tmp_path / 'gpt'}&max_length=99", folder)
    ids, mask = data.x_train["input_ids"], data.x_train["attention_mask"]
    assert not ids[mask == 0].any()
    assert 0 < float(mask.double().mean()) < 1


def test_labels_in_the_order_of_the_network(folder: Path, tmp_path: Path) -> None:
    order = ["testing", "email", "sports", "numbers", "asyncio"]
    config = {"id2label": {str(number): name for number, name in enumerate(order)}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "list.json").write_text(json.dumps(order))
    (tmp_path / "other.json").write_text(json.dumps({"label2id": {name: n for n, name in enumerate(order)}}))
    plain = load_data(PLAIN, folder)
    for labels in (tmp_path, tmp_path / "list.json", tmp_path / "other.json"):
        data = load_data(f"{PLAIN}&labels={labels}", folder)
        assert data.num_classes == 5
        topics = sorted(TOPICS)
        renamed = {
            number: plain.class_counts[topics.index(name)] if name in topics else 0 for number, name in enumerate(order)
        }
        assert data.class_counts == tuple(renamed.values())
        assert data.notes[0].startswith("the classes are numbered in the order given: 0 testing, 1 email, 2 sports")
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "testing", "1": "email"}}))
    assert refusal(f"{PLAIN}&labels={tmp_path}", folder) == (
        "the column topic of train.csv holds asyncio, numbers; expected the classes given: testing, email"
    )
    for held in ({"id2label": {"0": "a", "2": "b"}}, {"id2label": {"0": "a", "1": "a"}}, {"id2label": {}}, 3, [1, 2]):
        (tmp_path / "config.json").write_text(json.dumps(held))
        assert "does not name the classes 0, 1, 2, ..." in refusal(f"{PLAIN}&labels={tmp_path}", folder)
    (tmp_path / "config.json").write_text("[" * 100_000)
    assert "is no JSON file of class names" in refusal(f"{PLAIN}&labels={tmp_path}", folder)


def labelled(folder: Path, values: list[Any], suffix: str = ".jsonl", more: str = "") -> DataSet:
    texts = [f"The sentence number {n}" for n in range(len(values))]
    name = write(folder / f"labels{suffix}", {"text": texts, "label": values})
    return load_data(f"text:{name}?tokenizer=tok{more}", folder)


def test_labels_as_numbers_however_they_are_written(folder: Path) -> None:
    for values in ([1, 0, 2], ["1", "0", " 2"], [1.0, 0.0, 2.0]):
        data = labelled(folder, values)
        assert (data.num_classes, data.class_counts) == (3, (1, 1, 1))
    assert labelled(folder, [True, False, True]).class_counts == (1, 2)
    assert labelled(folder, [1, 0, 2], more="&classes=5").num_classes == 5
    late = labelled(folder, [1, 2, 3])
    assert (late.num_classes, late.notes[0]) == (
        4,
        "the labels in the column label of labels.jsonl start at 1: class 0 has no sample",
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, None, 0], "the column label of labels.jsonl has no label in row 2; expected one in every row; drop"),
        (["a", "", " "], "the column label of labels.jsonl has no label in 2 rows (first: 2); expected one in"),
        ([0, 1, "two"], "the column label of labels.jsonl holds numbers, and 'two' in row 3; expected integer class"),
        ([0.5, 1.5, 0.1], "the column label of labels.jsonl holds numbers such as 0.5: only classification is"),
        (["0.5", "1.5", "x"], None),
        ([0, -1, 1], "the labels of labels go down to -1; expected class labels from 0"),
        (["a", "a"], "all labels of labels are the same"),
    ],
)
def test_refused_labels(values: list[Any], message: str | None, folder: Path) -> None:
    if message is None:
        assert labelled(folder, values).num_classes == 3  # names, some of which look like fractions
        return
    with pytest.raises(InputError) as caught:
        labelled(folder, values)
    assert str(caught.value).startswith(message)


def test_notes_say_when_the_tokenizer_is_a_strange_one(folder: Path, rows: Rows, tmp_path: Path) -> None:
    save_word_pieces(tmp_path / "tok", ["12 34 56 78"] * 9, 40)
    notes = load_data(f"text:train.csv?label=topic&tokenizer={tmp_path / 'tok'}&max_length=24", folder).notes
    assert [note for note in notes if note.endswith("of the tokens are unknown to the tokenizer: is it the wrong one?")]
    notes = load_data(f"{PLAIN}&inputs=input_ids", folder).notes
    assert "the network is given no attention mask: padding counts as text" in notes
    assert not [note for note in load_data(PLAIN, folder).notes if "unknown" in note]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("text", "text names no file; expected text:FILE.csv?text=COLUMN&label=COLUMN&tokenizer=DIR"),
        ("text:train.csv?label=topic", "text names no tokenizer; expected tokenizer=DIR, the folder it was saved to"),
        ("text:train.csv?text=body&tokenizer=tok", "train.csv has no column 'body'; expected one of text, topic"),
        ("text:train.csv?label=y&tokenizer=tok", "train.csv has no column 'y'; expected one of text, topic"),
        (f"{PLAIN}&max_length=2", "max_length=2 of text; expected at least 3, marks at the ends included"),
        (f"{PLAIN}&padding=none", "padding=none of text; expected one of longest, max_length"),
        (f"{PLAIN}&inputs=input_ids,position", "inputs=input_ids,position, but the tokenizer gives no position"),
        (f"{PLAIN}&held_out=2", "held_out=2; expected a share between 0 and 1"),
        (f"{PLAIN}&held_out=0.2&test_file=test.csv", "test_file and held_out of text; expected one of them"),
        (f"{PLAIN}&train=181", "train=181 of train; expected at most 180, all there are"),
        (f"{PLAIN}/none", "the tokenizer "),
        ("text:tok?tokenizer=tok", ""),
    ],
)
def test_refused_options(spec: str, message: str, folder: Path) -> None:
    assert refusal(spec, folder).startswith(message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            b"text,label\nx,0\n,1\n  ,0\n",
            "the column text of a.csv has no text in 2 rows (first: 2); expected",
        ),
        ("b.csv", b"text,label\n", "b.csv holds no row; expected one text and its label a row"),
        ("c.csv", b"text,label\nx,y,0\n", "c.csv cannot be read as a table (line 2 has 3 fields, the first line 2)"),
        ("d.csv", b"text,label\n\xff\xfe,0\n", "d.csv cannot be read as a table ('utf-8' codec can't decode byte"),
        ("e.csv", b'text,label\n"x,0\n', "e.csv cannot be read as a table (unexpected end of data); expected UTF-8"),
        ("f.csv", b"text,text\nx,0\n", "two columns of f.csv have one name"),
        ("g.jsonl", b'{"text": "x"}\n{"text"\n', "g.jsonl cannot be read as JSON (line 2: Expecting ':' delimiter"),
        ("h.jsonl", b'{"text": "x"}\n3\n', "h.jsonl cannot be read as JSON (row 2 is no object)"),
        ("i.json", b"[" * 100_000, "i.json cannot be read as JSON ("),
        (
            "j.jsonl",
            b'{"text": 3, "label": 0}\n',
            "the column text of j.jsonl has no text in row 1; expected a text in",
        ),
        ("k.parquet", b"PAR1" + bytes(40), "k.parquet cannot be read as parquet; expected a whole parquet file"),
        ("l.txt", b"words", "l.txt is no table that is read; expected one of .csv, .tsv, .jsonl, .json, .parquet"),
        ("m.csv", b"", "m.csv is empty: the save or the copy did not finish"),
    ],
)
def test_refused_files(name: str, content: bytes, message: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    found = refusal(f"text:{name}?tokenizer={folder / 'tok'}", tmp_path)
    assert found.removeprefix(f"{tmp_path}/").startswith(message)


def test_a_folder_without_a_tokenizer_and_one_that_wants_its_code_run(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}})
    )
    (tmp_path / "own" / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    for name in ("empty", "own"):
        message = refusal(f"text:train.csv?label=topic&tokenizer={tmp_path / name}", folder)
        assert message.startswith(f"{tmp_path / name} holds no tokenizer that can be opened (")
        assert message.endswith("save it with tokenizer.save_pretrained(DIR)")
    assert not (tmp_path / "ran").exists()


def test_the_same_words_name_the_same_data(folder: Path) -> None:
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (load_data(f"{PLAIN}&train=50&held_out=0.2&label_noise=0.1", folder) for _ in range(2))
    for name in first.x_train:
        assert torch.equal(first.x_train[name], second.x_train[name])
        assert torch.equal(first.x_test[name], second.x_test[name])
    assert torch.equal(first.y_train, second.y_train)
    assert torch.equal(torch.random.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])
