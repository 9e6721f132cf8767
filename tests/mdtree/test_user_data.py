"""What a user's function may return, in the forms training code has it, and what is refused with the mend."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from mdtree import free_memory
from mdtree.data import load_data
from mdtree.datasets import sample_sources
from mdtree.datasets.data_set import DataSet
from mdtree.datasets.user_data import data_of
from mdtree.errors import InputError, ResourceError

USER_DATA = """
import itertools, random
import datasets, lightning, numpy as np, torch
from PIL import Image
from torch.utils.data import *
from torch.utils.data.distributed import DistributedSampler
from mdtree.data import DataSet

x, y = torch.arange(12.0).reshape(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
plain, shifted = TensorDataset(x, y), TensorDataset(x + 1, y)
columns = {"input_ids": [[5, 6], [7, 8], [9, 9]], "attention_mask": [[1, 1], [1, 0], [1, 1]], "label": [0, 1, 0]}

# arrays
def pair(n=6): return x[:n].numpy(), y[:n].tolist()
def listed(): return [x, y]
def four(): return x, y, x + 1, y
def pairs(): return (x, y), (x + 1, y)
def keyed(): return {"x_train": x, "y_train": y, "num_classes": 5}
def ready(): return DataSet(x, y, x, y, 4, "theirs", "", 99, "second_half", "divided by 255", ("mine",))
def split_arrays(): return {"train": (x, y), "test": (x + 1, y.tolist())}
def one_batch(): return {"pixels": x, "target": y}

# data sets
class Counted:
    def __len__(self): return 6
    def __getitem__(self, index): return x[index].numpy(), int(y[index])
def dataset(): return plain
def two_datasets(): return plain, shifted
def with_none(): return plain, None
def subset(): return Subset(ConcatDataset([plain, shifted]), range(6))
def counted(): return Counted()
def samples(): return [(x[i], y[i]) for i in range(6)]
def two_samples(): return [(x[0], 0), (x[1], 1)]
def columns_of_dicts(): return [{"image": x[i], "label": y[i]} for i in range(6)]
class Columns(Dataset):
    def __len__(self): return 6
    def __getitem__(self, index): return {"image": x[index], "y": y[index : index + 1]}
def label_of_one(): return Columns()

# loaders
def loader(): return DataLoader(plain, batch_size=4)
def shuffled(): return DataLoader(plain, batch_size=4, shuffle=True, drop_last=True)
def by_workers(): return DataLoader(plain, batch_size=4, num_workers=2)
def two_loaders(): return DataLoader(plain, shuffle=True), DataLoader(shifted)
def three_loaders(): return DataLoader(plain), DataLoader(shifted), DataLoader(plain)
def weighted(): return DataLoader(plain, sampler=WeightedRandomSampler([1, 9, 1, 1, 1, 1], 6))
def in_batches(): return DataLoader(plain, batch_sampler=BatchSampler(RandomSampler(plain), 4, False))
def unbatched(): return DataLoader(plain, batch_size=None)
def distributed(): return DataLoader(plain, sampler=DistributedSampler(plain, 2, 0))
def sampled():
    return DataLoader(plain, 2, sampler=SubsetRandomSampler([4, 0, 2]), drop_last=True), DataLoader(plain, sampler=[5])
def named_loaders(): return {"train": DataLoader(plain), "val": DataLoader(shifted), "test": DataLoader(plain)}
def stacked(rows): return torch.stack([row[0] for row in rows]), [row[1] for row in rows]
def collated(): return DataLoader(plain, 4, collate_fn=stacked)
class Module(lightning.LightningDataModule):
    def prepare_data(self): raise RuntimeError("downloads")
    def setup(self, stage): self.data = {"fit": plain}[stage]
    def train_dataloader(self): return DataLoader(self.data, 4, shuffle=True)
class Both(Module):
    def val_dataloader(self): return [DataLoader(shifted, 4)]
def module(): return Module()
def both(): return Both()

# iterables
class Stream(IterableDataset):
    def __iter__(self): yield from zip(x, y)
def stream(): return Stream()
def stream_loader(): return DataLoader(Stream(), 4)
def generator(): return ((x[i], int(y[i])) for i in range(6))
def batches(): return ((x[i : i + 4], y[i : i + 4]) for i in (0, 4))
def generators(): return generator(), ((x[i] + 1, int(y[i])) for i in range(6))

# named inputs
def named(): return columns | {"idx": [7, 8, 9]}
def pair_named(): return {k: torch.tensor(v) for k, v in columns.items() if k != "label"}, torch.tensor([0, 1, 0])
def hub(): return datasets.Dataset.from_dict(columns | {"text": ["a", "b", "c"], "idx": [7, 8, 9]})
def hub_torch(): return hub().with_format("torch")
def hub_dict():
    parts = {"test": hub().select([0, 1]), "validation": hub().select([1]), "unsupervised": hub()}
    return datasets.DatasetDict(train=hub(), **parts)
def hub_loader(): return DataLoader(hub_torch().remove_columns(["text"]), 2, shuffle=True)
ragged = [
    {"input_ids": [1, 2, 3], "attention_mask": [1, 1, 1], "labels": 0},
    {"input_ids": [4], "attention_mask": [1], "labels": 1},
]
def uneven_tokens(): return ragged
def uneven_hub(): return datasets.Dataset.from_list(ragged)
def unmasked(): return [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in ragged]

# random
class Noisy(TensorDataset):
    def __getitem__(self, index):
        a, b = super().__getitem__(index)
        return a + torch.rand(2), b
class Flipped(TensorDataset):
    def __getitem__(self, index):
        a, b = super().__getitem__(index)
        return (a.flip(0) if random.random() < 0.5 else a), b
class Relabelled(TensorDataset):
    def __getitem__(self, index): return x[index], np.random.randint(9)
class Growing(IterableDataset):
    def __iter__(self):
        for i in range(random.randint(1, 50)): yield x[0], 0
class Reordered(IterableDataset):
    def __iter__(self):
        for i in torch.randperm(6): yield x[i], y[i]
class Stateful(Dataset):
    own = np.random.default_rng(0)
    def __len__(self): return 6
    def __getitem__(self, index): return x[index] + self.own.random(), 0
def noisy(): return Noisy(x, y)
def noisy_test(): return plain, Noisy(x, y)
def flipped(): return Flipped(x, y)
def relabelled(): return Relabelled(x, y)
def growing(): return Growing()
def reordered(): return Reordered()
def stateful(): return Stateful()
def mixed(): return DataLoader(plain, 4, collate_fn=lambda rows: (stacked(rows)[0] * torch.rand(1), stacked(rows)[1]))
def random_generator(): return ((x[i] + torch.rand(2), 0) for i in range(6))
def unseeded(): return random_split(plain, [4, 2])
def shuffled_arrays():
    order = np.random.permutation(6)
    return x[order], y[order]
def seeded(): return random_split(plain, [4, 2], torch.Generator().manual_seed(1))
def seeds_all():
    lightning.seed_everything(3)
    return random_split(plain, [4, 2])
def draws_nothing_that_matters():
    np.random.seed(1); np.random.rand(); random.seed(2); random.random()
    return plain

# not usable
def mistyped(): return {"X": x, "y_train": y}
def not_ready(): return DataSet(x, y.float(), None, None, 4, "theirs", "")
def three(): return x, y, x
def nothing(): return None
def fails(): raise RuntimeError("no such disk")
class Uneven(TensorDataset):
    def __getitem__(self, index): return x[index, : 1 + index % 2], int(y[index])
def uneven(): return Uneven(x, y)
class Broken(TensorDataset):
    def __getitem__(self, index): raise OSError("disk\\ngone")
def broken(): return Broken(x, y)
def triples(): return TensorDataset(x, y, y)
def pictures(): return [(Image.new("RGB", (4, 4)), 0), (Image.new("RGB", (4, 4)), 1)]
def picture_columns(): return [{"image": Image.new("RGB", (4, 4)), "label": 0}]
def texts(): return [("good", 1), ("bad", 0)]
def named_classes(): return [(x[0], "cat"), (x[1], "dog")]
def byte_pixels(): return TensorDataset((x * 10).to(torch.uint8), y)
def one_hot(): return TensorDataset(x, torch.eye(3, dtype=torch.int64)[y])
def regression(): return TensorDataset(x, y.float())
def unlabelled(): return [{"input_ids": [1, 2]}]
def endless(): return ((x[0], i % 2) for i in itertools.count())
def empty(): return iter([])
def lopsided(): return DataLoader(plain, 6, collate_fn=lambda rows: (x, y[:5]))
def changing(): return [{"a": x[0], "b": x[0], "y": 0}, {"a": x[0], "c": x[0], "y": 1}]
def half_module():
    class Half(Module):
        def train_dataloader(self): return {"a": 1}
    return Half()
def bad_module():
    class Bad(Module):
        def setup(self, stage): raise KeyError("root")
    return Bad()
def bad_part(): return {"train": 3}
"""

X = [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
Y = [0, 1, 2, 0, 1, 2]


@pytest.fixture(scope="module")
def user_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "user_data_forms.py").write_text(USER_DATA)
    return folder


def load(function: str, folder: Path) -> DataSet:
    return load_data(f"user_data_forms:{function}", folder)


def refusal(function: str, folder: Path) -> str:
    """The one line with which a function's data are refused."""
    with pytest.raises(InputError) as caught:
        load(function, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace("user_data_forms:", "")


ONE_PART = (
    *("pair", "listed", "keyed", "ready", "one_batch", "dataset", "with_none", "subset", "counted", "samples"),
    *("columns_of_dicts", "label_of_one", "loader", "shuffled", "by_workers", "weighted", "in_batches", "unbatched"),
    *("distributed", "collated", "module", "stream", "stream_loader", "generator", "batches"),
    "draws_nothing_that_matters",
)
TWO_PARTS = (
    *("four", "pairs", "split_arrays", "two_datasets", "two_loaders", "three_loaders", "named_loaders", "both"),
    "generators",
)


@pytest.mark.parametrize("function", ONE_PART + TWO_PARTS)
def test_every_form_gives_the_same_data_in_order(user_data: Path, function: str) -> None:
    data = load(function, user_data)
    assert data.x_train.tolist() == X
    assert (data.x_train.dtype, data.y_train.dtype, data.y_train.tolist()) == (torch.float32, torch.int64, Y)
    assert (data.name, data.specification) == (f"user_data_forms:{function}",) * 2
    assert data.num_classes == {"keyed": 5, "ready": 4}.get(function, 3)
    assert (data.train_size_full, data.test_part) == ((99, "second_half") if function == "ready" else (None, "all"))
    if function in TWO_PARTS:
        assert data.x_test.tolist() == (torch.tensor(X) + 1).tolist()
        assert data.y_test.tolist() == Y
    elif function != "ready":
        assert (data.x_test, data.y_test) == (None, None)


@pytest.mark.parametrize(
    ("function", "notes"),
    [
        ("dataset", ()),
        ("loader", ()),
        ("ready", ("mine",)),
        ("shuffled", ("read in the data set's own order, not shuffled",)),
        ("in_batches", ("read in the data set's own order, not shuffled",)),
        ("weighted", ("read whole and in the data set's own order, each sample once, not as the sampler draws",)),
        ("distributed", ("read whole and in the data set's own order, not one process's share",)),
        ("three_loaders", ("of three parts the second is the test set, the third is left aside",)),
        ("named_loaders", ("the test set is the part val", "parts left aside: test")),
        ("both", ("the test set is that of val_dataloader()", "read in the data set's own order, not shuffled")),
        ("hub", ("columns left aside: idx, text",)),
        ("uneven_tokens", ("input_ids padded to 3 with 0, hidden by the attention_mask",)),
        ("draws_nothing_that_matters", ()),
        ("seeded", ()),
        ("seeds_all", ()),
    ],
)
def test_what_a_reader_should_know_is_noted(user_data: Path, function: str, notes: tuple[str, ...]) -> None:
    assert load(function, user_data).notes == notes


def test_samplers_that_always_draw_the_same_part_split_a_data_set(user_data: Path) -> None:
    """The usual way to hold out a part: two loaders over one data set, each with a SubsetRandomSampler."""
    data = load("sampled", user_data)
    assert (data.x_train.tolist(), data.x_test.tolist()) == ([X[0], X[2], X[4]], [X[5]])
    assert data.notes == (
        "the 3 of 6 samples that the sampler draws, in the data set's own order",
        "test set: the 1 of 6 samples that the sampler draws, in the data set's own order",
    )


def test_options_go_to_the_users_function(user_data: Path) -> None:
    data = load("pair?n=3", user_data)
    assert (len(data.x_train), data.specification) == (3, "user_data_forms:pair?n=3")
    assert (load("ready", user_data).normalisation, data.normalisation) == ("divided by 255", "as given")


def test_two_samples_in_a_list_are_samples(user_data: Path) -> None:
    data = load("two_samples", user_data)
    assert (data.x_train.tolist(), data.y_train.tolist()) == (X[:2], [0, 1])


@pytest.mark.parametrize("function", ["named", "pair_named", "hub", "hub_torch", "hub_loader", "hub_dict"])
def test_inputs_by_name(user_data: Path, function: str) -> None:
    data = load(function, user_data)
    assert {name: tensor.tolist() for name, tensor in data.x_train.items()} == {
        "input_ids": [[5, 6], [7, 8], [9, 9]],
        "attention_mask": [[1, 1], [1, 0], [1, 1]],
    }
    assert data.y_train.tolist() == [0, 1, 0]
    if function == "hub_dict":
        assert data.x_test["input_ids"].tolist() == [[7, 8]]
        assert data.notes[:2] == ("the test set is the part validation", "parts left aside: test, unsupervised")


@pytest.mark.parametrize("function", ["uneven_tokens", "uneven_hub"])
def test_tokens_of_different_length_are_padded_behind_a_mask(user_data: Path, function: str) -> None:
    data = load(function, user_data)
    assert data.x_train["input_ids"].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert data.x_train["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


MEND = "expected the same inputs in the same order; give the data the evaluation transform, and do not shuffle"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("noisy", f"the training set of noisy gives other inputs each time it is read (augmentation?); {MEND}"),
        ("noisy_test", f"the test set of noisy_test gives other inputs each time it is read (augmentation?); {MEND}"),
        ("flipped", "the training set of flipped gives other inputs each time it is read (augmentation?)"),
        ("stateful", "the training set of stateful gives other inputs each time it is read (augmentation?)"),
        ("mixed", "the training set of mixed gives other inputs each time it is read (augmentation?)"),
        ("reordered", "the training set of reordered gives other inputs each time it is read (augmentation, or anothe"),
        ("random_generator", "the training set of random_generator gives other inputs each time it is read (augmentat"),
        (
            "relabelled",
            "the training set of relabelled gives other labels each time it is read; expected the same label",
        ),
        ("growing", "the training set of growing gives another number of samples each time it is read; expected the"),
    ],
)
def test_what_changes_from_one_reading_to_the_next_is_refused(user_data: Path, function: str, message: str) -> None:
    before = torch.get_rng_state()
    assert refusal(function, user_data).startswith(message)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("function", ["unseeded", "shuffled_arrays"])
def test_a_split_without_a_seed_of_its_own_is_noted(user_data: Path, function: str) -> None:
    """It gives the same here every time, but it was another split when the network was trained."""
    first, second = (load(function, user_data) for _ in range(2))
    assert torch.equal(first.x_train, second.x_train)
    assert first.notes[-1].startswith("the function draws random numbers without a seed of its own: if they split or")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("mistyped", "mistyped returned a dict with the keys X, y_train; expected x_train, y_train, x_test, y_test"),
        ("not_ready", "y_train of not_ready is float32: only classification is diagnosed, not regression"),
        ("three", "three returned 3 parts; expected (x_train, y_train[, x_test, y_test]), a dict"),
        ("nothing", "nothing returned a NoneType; expected (x_train, y_train[, x_test, y_test]), a dict"),
        ("fails", "fails raised RuntimeError: no such disk; correct the function or its options"),
        ("uneven", "the inputs of the training set of uneven have different shapes, (1,) and (2,); expected one shape"),
        ("broken", "the training set of broken cannot be read (OSError: disk gone); correct the data set"),
        ("triples", "an item of the training set of triples is 3 parts; expected (input, label), or a dict of inputs"),
        (
            "pictures",
            "the input in an item of the training set of pictures is a picture; expected a tensor or an array",
        ),
        (
            "picture_columns",
            "an item of the training set of picture_columns holds no numbers beside the label: image (I",
        ),
        (
            "texts",
            "the input in an item of the training set of texts is text; expected a tensor or an array of numbers;",
        ),
        (
            "named_classes",
            "the label in an item of the training set of named_classes is text; expected a tensor or an a",
        ),
        (
            "byte_pixels",
            "x_train of byte_pixels is uint8; expected floats scaled as in training, or int64 tokens; conv",
        ),
        ("one_hot", "y_train of one_hot has shape (6, 3): one label a sample is supported, not several; expected"),
        ("regression", "y_train of regression is float32: only classification is diagnosed, not regression"),
        (
            "unlabelled",
            "an item of the training set of unlabelled is a dict of input_ids; expected (input, label), or a",
        ),
        (
            "unmasked",
            "the inputs input_ids of the training set of unmasked have different shapes, (1,) and (3,); expecte",
        ),
        ("empty", "the training set of empty is empty; expected at least one sample"),
        ("lopsided", "an item of the training set of lopsided has 5 labels and 6 inputs; expected equally many"),
        ("changing", "item 1 of the training set of changing holds a, c; expected a, b, as item 0"),
        ("half_module", "train_dataloader() of half_module gave a dict; expected one DataLoader"),
        (
            "bad_module",
            "the data module of bad_module raised KeyError: 'root'; expected loaders after setup(\"fit\"); run",
        ),
        ("bad_part", "the training set of bad_part is an int; expected (x, y), a Dataset, a DataLoader"),
    ],
)
def test_what_a_users_function_may_not_return(user_data: Path, function: str, message: str) -> None:
    assert refusal(function, user_data).startswith(message)


def test_an_endless_iterable_is_cut_off(user_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_sources, "SAMPLE_LIMIT", 2000)
    message = (
        "the training set of endless gives more than 2,000 samples; expected an end; cut it, as itertools.islice does"
    )
    assert refusal("endless", user_data) == message


@pytest.mark.parametrize(("function", "free"), [("dataset", 150), ("endless", 10_000)])
def test_what_would_not_fit_in_memory_is_refused(
    user_data: Path, monkeypatch: pytest.MonkeyPatch, function: str, free: int
) -> None:
    """Before it is read where the number of samples is known; while it is read elsewhere."""
    monkeypatch.setattr(free_memory, "free_memory", lambda: free)
    with pytest.raises(ResourceError, match=rf"the training set of user_data_forms:{function} would take .* GB of mem"):
        load(function, user_data)


def test_a_generator_is_read_from_its_start_to_its_end_although_it_is_probed_before(tmp_path: Path) -> None:
    (tmp_path / "one_generator.py").write_text(
        "import torch\ndef load():\n    return ((torch.ones(2) * i, i % 2) for i in range(200))\n"
    )
    data = load_data("one_generator:load", tmp_path)
    assert data.x_train[:, 0].tolist() == list(range(200))


def test_data_in_memory_in_the_same_forms() -> None:
    x, y = torch.tensor(X, dtype=torch.float32), torch.tensor(Y)
    data = data_of((DataLoader(TensorDataset(x, y), 4), DataLoader(TensorDataset(x + 1, y))), "the data given")
    assert (data.x_train.tolist(), data.x_test.tolist()) == (X, (x + 1).tolist())
    assert (data.name, data.specification) == ("the data given", "the data given")
    assert data_of(data, "again").y_train.tolist() == Y
    with pytest.raises(InputError, match="the data given can be read once only; expected a Dataset, a DataLoader or"):
        data_of(iter([(x, y)]), "the data given")
