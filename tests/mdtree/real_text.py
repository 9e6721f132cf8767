"""Real sentences that are on every machine, with a topic each, and a tokenizer trained on them.

The sentences are those of the standard library's docstrings; the topic is the package they stand in.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TOPICS = {
    "asyncio": ("asyncio",),
    "email": ("email", "mailbox.py", "smtplib.py", "imaplib.py", "poplib.py"),
    "numbers": ("statistics.py", "fractions.py", "random.py", "_pydecimal.py", "numbers.py"),
    "testing": ("unittest", "doctest.py", "pdb.py", "bdb.py"),
}
"""Modules and packages of the standard library by topic; the labels, in the order of their names."""

LEAST, MOST = 25, 200
"""Characters of a sentence that is kept."""


def docstring_sentences(per_topic: int = 400) -> list[tuple[str, str]]:
    """Different sentences and their topics, as many of each, in an order that looks random and is always the same."""
    rows = []
    for topic, names in TOPICS.items():
        sentences = sorted({s for file in _files(names) for s in _sentences(file)}, key=_mixed)
        rows += [(sentence, topic) for sentence in sentences[:per_topic]]
    texts = [text for text, _ in rows]
    return sorted((row for row in rows if texts.count(row[0]) == 1), key=lambda row: _mixed(row[0]))


def write_sentences(path: Path, rows: Sequence[tuple[str, str]]) -> Path:
    """A CSV file with the columns `text` and `topic`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "topic"))
        writer.writerows(rows)
    return path


def save_word_pieces(folder: Path, texts: Sequence[str], words: int = 600) -> Path:
    """Train a WordPiece tokenizer on the texts, as BERT's was, and save it as transformers does."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=words, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
    ).save_pretrained(folder)
    return folder


def _files(names: Sequence[str]) -> Iterator[Path]:
    library = Path(sysconfig.get_path("stdlib"))
    for name in names:
        path = library / name
        found = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        yield from (file for file in found if "test" not in file.parts)  # the library's own tests are not everywhere


def _sentences(file: Path) -> Iterator[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        docstring = ast.get_docstring(node) if isinstance(node, kinds) else None
        for paragraph in re.split(r"\n\s*\n", docstring or ""):
            for sentence in re.split(r"(?<=[.:!?])\s", " ".join(paragraph.split())):
                if LEAST <= len(sentence) <= MOST and ">>>" not in sentence and sentence[0].isupper():
                    yield sentence


def _mixed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
