"""All samples of a torch Dataset, a DataLoader, a Hugging Face data set or any iterable, in order and in one piece.

A DataLoader is not asked for its batches: the data set behind it is read in its own order through the loader's
`collate_fn`, in this process and without shuffling or leaving a last batch out. Where the loader's sampler always draws
the same part of the data set (`SubsetRandomSampler`), that part is read.

Some samples are read twice first, with the global random state in two different places. What differs is refused: a
network measured on inputs that change has no curvature of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, Subset

from mdtree.datasets.data_files import FIXED_SEED
from mdtree.datasets.data_set import Inputs
from mdtree.datasets.sample_batches import Batch, as_batch, joined
from mdtree.errors import InputError, MDTreeError
from mdtree.free_memory import check_memory
from mdtree.specification import shown
from mdtree.user_code import isolated_random_state

SAMPLE_LIMIT = 5_000_000
"""More samples than this are taken for endless."""

PROBED_SAMPLES = 64
"""So many samples are read twice, spread over the data where they can be read by number."""

_CHECKED_EVERY = 256
"""After so many items the free memory is looked at again."""


@dataclass(frozen=True)
class SampleSource:
    """Where samples come from.

    Parameters
    ----------
    items : callable
        A new pass over all items, each a sample or a batch, in order.
    probes : callable
        A new pass over the items that are read twice.
    batched : bool or None
        Whether items are batches; None where each item tells by its label.
    count : int or None
        How many samples there are, where that is known.
    mixed : str
        What may be the matter if two passes differ.
    notes : tuple of str
        What a reader of results should know.
    """

    items: Callable[[], Iterator[Any]]
    probes: Callable[[], Iterator[Any]]
    batched: bool | None = None
    count: int | None = None
    mixed: str = "augmentation?"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ReadSamples:
    """Every sample of a source: inputs with the samples first, labels (n,), and what a reader should know."""

    inputs: Inputs
    labels: Tensor
    notes: tuple[str, ...]


def is_source(value: object) -> bool:
    """Whether samples can be read from `value` one after another; arrays, lists, tuples and dicts are none."""
    if isinstance(value, Dataset | DataLoader):
        return True
    if isinstance(value, list | tuple | set | Mapping | str | bytes) or hasattr(value, "__array__"):
        return False
    return hasattr(value, "__iter__") or _is_indexed(value)


def read_source(fetch: Callable[[], Any], what: str) -> ReadSamples:
    """Read all samples.

    Parameters
    ----------
    fetch : callable
        Gives the Dataset, DataLoader or iterable; asked again for one that can be read once only.
    what : str
        What to call it in errors: "the training data of module:function".

    Raises
    ------
    InputError
        If an item is no (input, label) and no dict with a label, samples differ in shape or from one reading to the
        next, or there are more than `SAMPLE_LIMIT`.
    ResourceError
        If they do not fit in memory.
    """
    try:
        source = _source_of(fetch)
        _check_repeatable(source, what)
        with isolated_random_state(FIXED_SEED):
            batches = list(_batches(source, what))
            read = joined(batches, what)
    except (MDTreeError, MemoryError):
        raise
    except Exception as error:  # the user's __getitem__, __iter__ and collate_fn may raise anything
        told = shown(" ".join(f"{type(error).__name__}: {error}".split()))
        raise InputError(f"{what} cannot be read ({told})", "", "correct the data set") from error
    return ReadSamples(read.inputs, read.labels, (*source.notes, *read.notes))


def _source_of(fetch: Callable[[], Any]) -> SampleSource:
    value = fetch()
    if isinstance(value, DataLoader):
        return _loader_source(value)
    if not isinstance(value, IterableDataset) and _is_indexed(value):
        count = len(value)
        step = max(1, count // PROBED_SAMPLES)
        probed = range(0, count, step)
        return SampleSource(
            lambda: (value[index] for index in range(count)), lambda: (value[index] for index in probed), False, count
        )
    once = iter(value) is value
    items: Callable[[], Iterator[Any]] = (lambda: iter(fetch())) if once else (lambda: iter(value))
    return _first_items_probed(items, None)


def _first_items_probed(items: Callable[[], Iterator[Any]], batched: bool | None, *notes: str) -> SampleSource:
    def probes() -> Iterator[Any]:
        return itertools.islice(items(), PROBED_SAMPLES if not batched else 2)

    return SampleSource(items, probes, batched, None, "augmentation, or another order?", notes)


def _loader_source(loader: DataLoader[Any]) -> SampleSource:
    """The data set behind a loader, in order, batched by its `collate_fn`."""
    batched = loader.batch_size is not None or loader.batch_sampler is not None
    size = (loader.batch_size or PROBED_SAMPLES) if batched else None
    if isinstance(loader.dataset, IterableDataset):
        in_order: DataLoader[Any] = DataLoader(loader.dataset, size, collate_fn=loader.collate_fn)
        return _first_items_probed(lambda: iter(in_order), True if batched else None)
    indices, notes = _indices_of(loader)

    def passing(chosen: list[int]) -> Callable[[], Iterator[Any]]:
        part: DataLoader[Any] = DataLoader(Subset(loader.dataset, chosen), size, collate_fn=loader.collate_fn)
        return lambda: iter(part)

    probed = indices[:: max(1, len(indices) // PROBED_SAMPLES)]
    return SampleSource(
        passing(indices), passing(probed), True if batched else None, len(indices) if batched else None, notes=notes
    )


def _indices_of(loader: DataLoader[Any]) -> tuple[list[int], tuple[str, ...]]:
    """Which samples of its data set a loader draws, sorted, and what to say about them."""
    count = len(loader.dataset)  # type: ignore[arg-type]
    everything = list(range(count))
    sampler: Iterable[Any] = (
        loader.sampler if loader.batch_size is not None else (loader.batch_sampler or loader.sampler)
    )
    if isinstance(sampler, DistributedSampler):
        return everything, ("read whole and in the data set's own order, not one process's share",)
    first, second = (_drawn(sampler, count, seed) for seed in (FIXED_SEED, FIXED_SEED + 1))
    in_order = (first, second) == (everything, everything)
    if set(first) != set(second) or len(first) > count:  # drawn anew in every epoch: any of them may be trained on
        return everything, ("read whole and in the data set's own order, each sample once, not as the sampler draws",)
    chosen = sorted(set(first))
    if len(chosen) < count:
        return chosen, (f"the {len(chosen)} of {count} samples that the sampler draws, in the data set's own order",)
    return everything, () if in_order else ("read in the data set's own order, not shuffled",)


def _drawn(sampler: Iterable[Any], count: int, seed: int) -> list[int]:
    """The indices one pass of a sampler, or of a batch sampler, gives; at most one more than there are samples."""
    with isolated_random_state(seed):
        drawn = (index for item in sampler for index in (item if isinstance(item, list | tuple) else [item]))
        return [int(index) for index in itertools.islice(drawn, count + 1)]


def _batches(source: SampleSource, what: str) -> Iterator[Batch]:
    """All items as batches, with an eye on their number and on the memory."""
    samples = size = 0
    for number, item in enumerate(source.items()):
        batch = as_batch(item, source.batched, f"item {number} of {what}")
        samples += len(batch.labels)
        size += sum(tensor.nbytes for tensor in batch.inputs.values())
        if number == 0 and source.count is not None and samples:
            # twice: the batches and what they are joined to
            check_memory(what, 2 * source.count * size // samples, "return fewer samples, for instance a Subset")
        if number % _CHECKED_EVERY == 0:
            check_memory(what, size, "return fewer samples")
        if samples > SAMPLE_LIMIT:
            raise InputError(
                f"{what} gives more than {SAMPLE_LIMIT:,} samples", "an end", "cut it, as itertools.islice does"
            )
        yield batch


def _check_repeatable(source: SampleSource, what: str) -> None:
    """Read some samples twice, with another random state, and refuse what differs."""
    passes = []
    for seed in (FIXED_SEED, FIXED_SEED + 1):
        with isolated_random_state(seed):
            passes.append([as_batch(item, source.batched, f"an item of {what}") for item in source.probes()])
    if len(passes[0]) != len(passes[1]):
        raise InputError(f"{what} gives another number of samples each time it is read", "the same samples again")
    for one, other in zip(*passes, strict=True):
        kinds = [{name: (x.shape, x.dtype) for name, x in batch.inputs.items()} for batch in (one, other)]
        if kinds[0] != kinds[1] or not all(_same(x, other.inputs[name]) for name, x in one.inputs.items()):
            raise InputError(
                f"{what} gives other inputs each time it is read ({source.mixed})",
                "the same inputs in the same order",
                "give the data the evaluation transform, and do not shuffle",
            )
        if one.labels.shape != other.labels.shape or not _same(one.labels, other.labels):
            raise InputError(
                f"{what} gives other labels each time it is read", "the same label for the same sample", "fix the seed"
            )


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape are equal; NaN equals NaN here, and is refused where inputs are checked."""
    return bool(((one == other) | ((one != one) & (other != other))).all())


def _is_indexed(value: object) -> bool:
    return hasattr(value, "__getitem__") and hasattr(value, "__len__")
