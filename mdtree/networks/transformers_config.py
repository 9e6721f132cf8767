"""Reading a Hugging Face ``config.json`` that may come from anywhere, and whether it describes a classifier we know."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.specification import shown

_TEXT = """
albert bert camembert convbert data2vec-text deberta deberta-v2 distilbert electra ernie ibert megatron-bert mobilebert
modernbert mpnet rembert roberta roberta-prelayernorm roformer squeezebert xlm-roberta xlm-roberta-xl
"""
_IMAGE = """
beit bit convnext convnextv2 cvt data2vec-vision deit dinov2 efficientnet focalnet hiera mobilenet_v1 mobilenet_v2
mobilevit mobilevitv2 poolformer pvt regnet resnet segformer swiftformer swin swinv2 vit vit_msn
"""
TEXT_TYPES = tuple(_TEXT.split())
IMAGE_TYPES = tuple(_IMAGE.split())
"""Model types that `transformers` builds from a configuration alone, by code of its own, twice differentiable."""

TEXTS = "ForSequenceClassification"
IMAGES = "ForImageClassification"

_LARGEST_FILE = 4 * 2**20
_DEEPEST = 8
_LARGEST_NUMBER = 2**24
_MOST_LABELS = 100_000


def read_config(file: Path) -> dict[str, Any]:
    """Read a ``config.json`` that may come from anywhere.

    Raises
    ------
    InputError
        If it is no regular file, too large or too deep, no JSON object, or holds a number that no network needs.
    """
    regular_file(file)
    if file.stat().st_size > _LARGEST_FILE:
        raise InputError(f"{file} has {file.stat().st_size:,} bytes", f"at most {_LARGEST_FILE:,}")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is no JSON ({' '.join(str(error).split())[:100]})", "", "copy it again") from error
    if not isinstance(config, dict):
        raise InputError(f"{file} holds a {type(config).__name__}", "the object that save_pretrained writes")
    for path, value in _leaves(config, "", _DEEPEST, file):
        if isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) <= _LARGEST_NUMBER:
            raise InputError(f"{shown(path)} in {file} is {value:.3g}", f"at most {_LARGEST_NUMBER:,}")
    return config


def _leaves(value: Any, path: str, depth: int, file: Path) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict | list):
        yield path, value
        return
    if depth == 0:
        raise InputError(f"{file} is nested more than {_DEEPEST} levels deep", "a configuration of save_pretrained")
    if len(value) > _MOST_LABELS:
        raise InputError(f"{shown(path)} in {file} has {len(value):,} entries", f"at most {_MOST_LABELS:,}")
    for key, one in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(one, f"{path}.{key}" if path else str(key), depth - 1, file)


def checked_kind(config: Mapping[str, Any], file: Path) -> str:
    """What it classifies, `TEXTS` or `IMAGES`.

    Raises
    ------
    InputError
        If the file describes anything but a classifier of a known type with one label a sample.
    """
    mend = "name a function that builds it: --model package.module:factory"
    if config.get("auto_map"):
        raise InputError(f"{file} asks for code of its own (auto_map), which is never run", "", mend)
    if config.get("quantization_config"):
        raise InputError(
            f"{file} describes quantised weights", "weights in floating point", "give the checkpoint from before"
        )
    named = config.get("model_type")
    if not isinstance(named, str) or named not in (*TEXT_TYPES, *IMAGE_TYPES):
        raise InputError(
            f"{file} is of model type {shown(str(named))!r}", f"one of {', '.join((*TEXT_TYPES, *IMAGE_TYPES))}", mend
        )
    kind = TEXTS if named in TEXT_TYPES else IMAGES
    listed = config.get("architectures")
    architecture = listed[0] if isinstance(listed, list) and listed and isinstance(listed[0], str) else None
    what = "texts" if kind == TEXTS else "images"
    if architecture is not None and not architecture.endswith(kind):
        raise InputError(
            f"{file} describes {shown(architecture)}, which is no classifier of whole {what}",
            f"a name that ends in {kind}",
            mend,
        )
    if config.get("problem_type") not in (None, "single_label_classification"):
        raise InputError(
            f"{file} describes a {shown(str(config['problem_type'])).replace('_', ' ')}",
            "one label of several a sample",
        )
    return kind


def number_of_labels(config: Mapping[str, Any], file: Path) -> int:
    """Number of outputs, 2 where the file does not say, as in transformers.

    Raises
    ------
    InputError
        For fewer than 2, or more than any data set has.
    """
    names, number = config.get("id2label"), config.get("num_labels")
    labels = len(names) if isinstance(names, dict) and names else number if type(number) is int else 2
    if labels < 2:
        raise InputError(f"{file} describes {labels} output, a regression", "2 classes or more")
    if labels > _MOST_LABELS:
        raise InputError(f"{file} describes {labels:,} labels", f"at most {_MOST_LABELS:,}")
    return labels
