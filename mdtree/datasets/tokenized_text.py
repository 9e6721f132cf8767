"""From texts to the named inputs of a network: token numbers, the mask of what is no padding, token types.

Options of every data set of texts (``text``, ``hf``):

``tokenizer=DIR``
    A folder that holds a tokenizer as transformers saves it, or a ``tokenizer.json`` of the package tokenizers.
``max_length=N``
    Longer texts are cut at N tokens; by default at what the tokenizer says, and at most at `MOST_TOKENS`.
``padding=longest|max_length``
    Shorter ones are filled up to the longest that is chosen, the default, or to `max_length`.
``inputs=input_ids,attention_mask``
    Which of the tokenizer's outputs the network is given; by default all that it makes.

Nothing is fetched from anywhere, and no code that comes with a tokenizer is run. Needs the extra ``transformers``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mdtree.datasets.data_files import data_path
from mdtree.datasets.data_set import DataSet
from mdtree.datasets.subset import Array
from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.free_memory import check_memory
from mdtree.specification import Kind, listing, shown

MOST_TOKENS = 512
"""Where texts are cut if neither the option nor the tokenizer says."""

UNKNOWN_SHARE = 0.2
"""Share of unknown tokens from which the tokenizer is doubted."""

TOKEN_KINDS: Mapping[str, Kind] = {
    "tokenizer": str,
    "max_length": int,
    "padding": ("longest", "max_length"),
    "inputs": str,
}

_CHUNK = 1024
"""Texts that are tokenized at a time: their numbers lie in Python lists meanwhile."""


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """Row numbers to named inputs, all of `max_length` tokens.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    texts : sequence of (str,) or (str, str)
        One text, or a pair, a row.
    max_length : int
    inputs : tuple of str
        Names of the outputs that are kept; all, if empty.
    longest : bool
        Whether padding that all samples have is cut off in the end.
    name : str
        What the tokenizer is called.
    """

    tokenizer: Any
    texts: Sequence[tuple[str, ...]]
    max_length: int
    inputs: tuple[str, ...]
    longest: bool
    name: str

    def decode(self, rows: Array) -> dict[str, Array]:
        """int64 arrays of shape (rows, max_length) by name.

        Raises
        ------
        InputError
            If the tokenizer fails on a text, or does not give what `inputs` names.
        """
        check_memory(f"{len(rows)} texts", 24 * len(rows) * self.max_length, "add train=N or a smaller max_length")
        found: dict[str, Array] = {}
        for start in range(0, len(rows), _CHUNK):
            part = self._encoded([self.texts[row] for row in rows[start : start + _CHUNK].tolist()])
            for name, values in part.items():
                found.setdefault(name, np.empty((len(rows), self.max_length), dtype=np.int64))
                found[name][start : start + len(values)] = values
        return found

    def _encoded(self, texts: Sequence[tuple[str, ...]]) -> dict[str, Array]:
        columns = [list(column) for column in zip(*texts, strict=True)]
        try:
            made = self.tokenizer(
                *columns,
                truncation=True,
                padding="max_length",
                max_length=self.max_length,
                return_attention_mask=True,
            )
            arrays = {str(name): np.array(values, dtype=np.int64) for name, values in made.items()}
        except BaseException as error:  # tokenizers raise what they like
            _raise_if_meant(error)
            raise InputError(f"the tokenizer {self.name} fails ({_told(error)})", "one that fits the texts") from error
        missing = [name for name in self.inputs if name not in arrays]
        if missing:
            raise InputError(
                f"inputs={','.join(self.inputs)}, but the tokenizer gives no {missing[0]}", listing(list(arrays))
            )
        if any(values.shape != (len(texts), self.max_length) for values in arrays.values()):
            raise InputError(
                f"the tokenizer {self.name} does not cut texts at {self.max_length} tokens", "one that does"
            )
        return {name: values for name, values in arrays.items() if not self.inputs or name in self.inputs}

    def finished(self, data: DataSet) -> DataSet:
        """The data set without padding that every sample has, and with what is to be said of its tokens."""
        if self.longest:
            data = without_shared_padding(data)
        inputs = data.x_train
        assert isinstance(inputs, dict)
        width = next(iter(inputs.values())).shape[1]
        words = f"tokens of {self.name}, texts cut at {self.max_length}, padded to {width}"
        return replace(data, normalisation=words, notes=(*data.notes, *self._notes(inputs)))

    def _notes(self, inputs: Mapping[str, Tensor]) -> list[str]:
        ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
        if mask is None:
            return ["the network is given no attention mask: padding counts as text"]
        notes = []
        full = int((mask.sum(1) >= self.max_length).sum())
        if full:
            notes.append(f"{full} of {len(mask)} training texts fill all {self.max_length} tokens: longer ones are cut")
        unknown = self.tokenizer.unk_token_id
        if ids is not None and unknown is not None:
            share = float(((ids == unknown) & (mask == 1)).sum() / mask.sum())
            if share > UNKNOWN_SHARE:
                notes.append(f"{100 * share:.0f} % of the tokens are unknown to the tokenizer: is it the wrong one?")
        return notes


def text_encoder(
    name: str, options: Mapping[str, Any], texts: Sequence[tuple[str, ...]], directory: Path
) -> TextEncoder:
    """The encoder that the `TOKEN_KINDS` options of a specification ask for.

    Raises
    ------
    InputError
        If there is no tokenizer, an option is out of range, or the package is missing.
    """
    if options["tokenizer"] is None:
        raise InputError(f"{name} names no tokenizer", "tokenizer=DIR, the folder it was saved to")
    given = str(options["tokenizer"])
    tokenizer = open_tokenizer(data_path(given, directory))
    own = min(int(tokenizer.model_max_length), MOST_TOKENS)
    length = own if options["max_length"] is None else int(options["max_length"])
    pair = len(texts[0]) == 2 if texts else False
    least = tokenizer.num_special_tokens_to_add(pair=pair) + (2 if pair else 1)
    if length < least:
        raise InputError(f"max_length={length} of {name}", f"at least {least}, marks at the ends included")
    inputs = tuple(str(options["inputs"]).split(",")) if options["inputs"] else ()
    padded = f"{type(tokenizer).__name__} of {shown(Path(given).name or given)}"
    return TextEncoder(tokenizer, texts, length, inputs, options["padding"] != "max_length", padded)


def open_tokenizer(path: Path) -> Any:
    """A tokenizer of transformers from a folder, or from a JSON file of the package tokenizers.

    One without a padding token pads with its end token, else with token 0: the mask covers it.

    Raises
    ------
    InputError
        If there is none, it needs code of its own, or the package is missing.
    """
    if not path.is_dir() and not path.is_file():
        raise InputError(
            f"the tokenizer {path} does not exist", "a folder with tokenizer.json or tokenizer_config.json"
        )
    try:
        from transformers import AutoTokenizer, PreTrainedTokenizerFast
    except ImportError as error:
        raise InputError(
            "texts need the package transformers", "", "pip install 'mdtree-diagnosis[transformers]'"
        ) from error
    try:
        if path.is_dir():
            tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
        else:
            tokenizer = PreTrainedTokenizerFast(**_single_file(regular_file(path)))
    except InputError:
        raise
    except BaseException as error:  # a folder without one, damaged files, one that wants its own code run
        _raise_if_meant(error)
        raise InputError(
            f"{path} holds no tokenizer that can be opened ({_told(error)})",
            "a folder with tokenizer.json or tokenizer_config.json",
            "save it with tokenizer.save_pretrained(DIR)",
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def _single_file(path: Path) -> dict[str, Any]:
    """A JSON file of the package tokenizers with its special tokens, as the arguments of transformers' tokenizer."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    known = tokenizer.get_vocab(with_added_tokens=True)
    padding = (tokenizer.padding or {}).get("pad_token")
    pads = [token for token in (padding, "[PAD]", "<pad>", "<|padding|>", "<|endoftext|>") if token in known]
    unknown = getattr(tokenizer.model, "unk_token", None) or next((t for t in ("[UNK]", "<unk>") if t in known), None)
    special = {"pad_token": pads[0] if pads else None, "unk_token": unknown}
    return {"tokenizer_object": tokenizer, **{name: token for name, token in special.items() if token is not None}}


def without_shared_padding(data: DataSet) -> DataSet:
    """The same inputs without the places, at either end, where every training and test sample has padding."""
    parts = [part for part in (data.x_train, data.x_test) if isinstance(part, dict)]
    masks = [part["attention_mask"] for part in parts if "attention_mask" in part]
    if not masks:
        return data
    used = np.flatnonzero(np.logical_or.reduce([mask.any(0).numpy() for mask in masks]))
    if not len(used):
        return data
    kept = slice(int(used[0]), int(used[-1]) + 1)
    cut = [{name: tensor[:, kept].contiguous() for name, tensor in part.items()} for part in parts]
    return replace(data, x_train=cut[0], x_test=cut[1] if len(cut) > 1 else None)


def _raise_if_meant(error: BaseException) -> None:
    """Interrupts go on; a panic of the Rust half, which is no `Exception` either, is an error like others."""
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error


def _told(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return shown(" ".join(lines[0].split()))
