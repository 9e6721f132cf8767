"""Images and tables in parquet files: what is read, how it is scaled, and what is refused in one line."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from mdtree.data import load_data
from mdtree.datasets import stored_images
from mdtree.errors import InputError

GREY = np.random.default_rng(0).integers(0, 256, (10, 4, 6), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)
LABELS = [n % 2 for n in range(10)]
ORDER = np.random.default_rng(20240626).permutation(10)  # the split of a file that comes without one
POOL, TEST = ORDER[:6], ORDER[6:]


def encoded(image: np.ndarray[Any, Any], kind: str = "PNG", mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    picture = Image.fromarray(image)
    (picture.convert(mode) if mode else picture).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, rows_in_a_group: int = 4, **columns: Any) -> None:
    parquet.write_table(pyarrow.table(columns), path, row_group_size=rows_in_a_group)


def refusal(spec: str, directory: Path) -> str:
    """The one line with which a specification is refused."""
    with pytest.raises(InputError) as caught:
        load_data(spec, directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Grey and colour images, and a table of numbers; six rows are the pool, four the test set."""
    write(tmp_path / "grey.parquet", picture=[encoded(image) for image in GREY], digit=LABELS)
    structs = [{"bytes": encoded(image), "path": f"{n}.png"} for n, image in enumerate(COLOUR)]
    write(tmp_path / "colour.parquet", image=structs, label=LABELS)
    write(
        tmp_path / "table.parquet",
        a=np.arange(10),
        name=[f"row {n}" for n in range(10)],
        b=np.linspace(-1, 1, 10),
        c=[n > 4 for n in range(10)],
        label=pyarrow.array(LABELS, pyarrow.int8()),
    )
    return tmp_path


def test_grey_images_by_the_names_of_their_columns(folder: Path) -> None:
    data = load_data("parquet:grey.parquet?image=picture&label=digit&test=all", folder)
    assert (data.x_train.shape, data.x_train.dtype, data.name) == ((6, 1, 4, 6), torch.float32, "grey")
    assert (data.train_size_full, data.num_classes, data.test_part) == (6, 2, "all")
    np.testing.assert_array_equal(data.x_test[:, 0].numpy(), GREY[TEST] / np.float32(255))
    assert data.y_test.tolist() == [LABELS[n] for n in TEST]
    taken = {row.numpy().tobytes(): label for row, label in zip(data.x_train, data.y_train.tolist(), strict=True)}
    assert taken == {(GREY[n] / np.float32(255)).tobytes(): LABELS[n] for n in POOL}


def test_colour_images_in_the_structs_of_hugging_face(folder: Path) -> None:
    data = load_data("parquet:colour.parquet?image=image&test=all", folder)
    expected = COLOUR[TEST].transpose(0, 3, 1, 2) / np.float32(255)
    np.testing.assert_array_equal(data.x_test.numpy(), expected)


def test_the_common_options_choose_as_for_every_data_set(folder: Path) -> None:
    spec = "parquet:colour.parquet?image=image&seed=3"
    whole, first, second = (load_data(f"{spec}&test={part}", folder) for part in ("all", "first_half", "second_half"))
    assert torch.equal(torch.cat([first.x_test, second.x_test]), whole.x_test)
    assert torch.equal(load_data(f"{spec}&train=4", folder).x_train, whole.x_train[:4])
    assert len(load_data(spec, folder).x_test) == 2  # the first half by default
    noisy = load_data(f"{spec}&label_noise=1", folder)
    assert torch.equal(noisy.y_train, 1 - whole.y_train)
    swapped = load_data(f"{spec}&only=1,0&test=all", folder)
    assert torch.equal(swapped.y_test, 1 - whole.y_test)


def test_a_second_file_is_the_test_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "more.parquet", image=[encoded(image) for image in 255 - COLOUR[:3]], label=[1, 1, 0])
    monkeypatch.setenv("MY_DATA", str(folder))
    data = load_data("parquet:$MY_DATA/colour.parquet?image=image&test_file=$MY_DATA/more.parquet&test=all", folder)
    assert (len(data.x_train), data.y_test.tolist()) == (10, [1, 1, 0])
    np.testing.assert_array_equal(data.x_test.numpy(), (255 - COLOUR[:3]).transpose(0, 3, 1, 2) / np.float32(255))


def test_size_averages_blocks_of_pixels(folder: Path) -> None:
    data = load_data("parquet:grey.parquet?image=picture&label=digit&size=2&test=all", folder)
    assert data.x_test.shape == (4, 1, 2, 3)
    expected = GREY[TEST].reshape(4, 2, 2, 3, 2).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(data.x_test[:, 0].numpy(), expected, rtol=0, atol=1e-6)


def test_mean_and_std_are_those_of_each_channel(folder: Path) -> None:
    spec = "parquet:colour.parquet?image=image&test=all"
    plain = load_data(spec, folder).x_test
    scaled = load_data(f"{spec}&mean=0.5,0.4,0.3&std=0.2,0.25,0.5", folder).x_test
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.5, 0.4, 0.3], [0.2, 0.25, 0.5]))
    torch.testing.assert_close(scaled, (plain - mean) / std, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(load_data(f"{spec}&mean=0.5&std=2", folder).x_test, (plain - 0.5) / 2)


def test_channels_turn_grey_into_colour_and_back(folder: Path) -> None:
    grey = load_data("parquet:grey.parquet?image=picture&label=digit&channels=3", folder).x_train
    assert grey.shape == (6, 3, 4, 6)
    assert torch.equal(grey[:, 0], grey[:, 2])
    colour = load_data("parquet:colour.parquet?image=image&channels=1&test=all", folder).x_test
    luma = COLOUR[TEST] @ np.array([0.299, 0.587, 0.114]) / 255  # ITU-R 601, which Pillow documents
    np.testing.assert_allclose(colour[:, 0].numpy(), luma, rtol=0, atol=1 / 255)


def test_jpeg_palette_and_transparency(folder: Path) -> None:
    kinds = [encoded(COLOUR[0], "JPEG"), encoded(COLOUR[0], mode="P"), encoded(COLOUR[0], mode="RGBA")]
    write(folder / "mixed.parquet", image=kinds, label=[0, 1, 0])
    data = load_data("parquet:mixed.parquet?image=image&test_file=mixed.parquet&test=all", folder)
    assert data.x_test.shape == (3, 3, 4, 4)
    np.testing.assert_array_equal(data.x_test[2].numpy(), COLOUR[0].transpose(2, 0, 1) / np.float32(255))


def test_only_the_chosen_images_are_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = stored_images.decode_image

    def recorded(data: object, channels: int | None, where: str) -> np.ndarray[Any, Any]:
        seen.append(where)
        return real(data, channels, where)

    monkeypatch.setattr(stored_images, "decode_image", recorded)
    load_data("parquet:colour.parquet?image=image&train=3", folder)
    assert len(seen) == 3 + 2  # and half of the four test images
    assert len(set(seen)) == 5


def test_a_table_of_numbers(folder: Path) -> None:
    """All columns of numbers but the label, in the order of the file; text is left out."""
    data = load_data("parquet:table.parquet?test=all", folder)
    columns = np.stack([np.arange(10), np.linspace(-1, 1, 10), np.arange(10) > 4], axis=1).astype(np.float32)
    np.testing.assert_array_equal(data.x_test.numpy(), columns[TEST])
    assert (data.x_train.shape, data.y_test.tolist()) == ((6, 3), [LABELS[n] for n in TEST])
    chosen = load_data("parquet:table.parquet?features=b,a&mean=1,2&std=0.5,4&test=all", folder)
    np.testing.assert_allclose(chosen.x_test.numpy(), ((columns[TEST] - [2, 1, 0]) / [4, 0.5, 1])[:, 1::-1], rtol=1e-6)
    assert load_data("parquet:table.parquet?label=c&classes=4", folder).num_classes == 4


def test_a_second_table_is_the_test_set(folder: Path) -> None:
    write(folder / "more.parquet", b=[5.0, 6.0], a=[7, 8], label=[0, 1])
    data = load_data("parquet:table.parquet?features=a,b&test_file=more.parquet&test=all", folder)
    assert (len(data.x_train), data.x_test.tolist(), data.y_test.tolist()) == (10, [[7, 5], [8, 6]], [0, 1])


def test_a_file_too_short_to_hold_out_a_test_set_has_none(folder: Path) -> None:
    write(folder / "two.parquet", a=[1.0, 2.0], label=[0, 1])
    data = load_data("parquet:two.parquet", folder)
    assert (len(data.x_train), data.x_test, data.y_test) == (2, None, None)


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("none.parquet", "none.parquet does not exist; expected a file; check the path"),
        ("grey.parquet?image=image&label=digit", "grey.parquet has no column 'image'; expected one of picture, digit"),
        ("grey.parquet?image=picture", "grey.parquet has no column 'label'; expected one of picture, digit"),
        (
            "grey.parquet?label=digit",
            "grey.parquet has no column of numbers beside digit; expected features, or",
        ),
        ("grey.parquet?image=digit&label=digit", "the column digit of grey.parquet is int64; expected PNG or JPEG by"),
        (
            "table.parquet?label=name",
            "the column name of table.parquet is string; expected integer class labels",
        ),
        ("table.parquet?label=b", "y_train of table is float64: only classification is diagnosed"),
        (
            "table.parquet?features=a,name",
            "'name' is no feature of table.parquet; expected columns of numbers: a, b",
        ),
        ("table.parquet?size=2", "size=2 of parquet without images; expected image=COLUMN too, or no size"),
        ("table.parquet?mean=1,2", "2 numbers in mean for 3 columns; expected 1 or 3"),
        ("table.parquet?std=0", "std=0 of parquet; expected numbers other than 0"),
        ("table.parquet?mean=x", "mean=x of parquet; expected numbers, for instance mean=0.5 or mean=0.49,0.48,0.45"),
        ("table.parquet?train=7", "train=7 of table; expected at most 6, all there are"),
        ("colour.parquet?image=image&std=1,2", "2 numbers in std for 3 channels; expected 1 or 3"),
        ("colour.parquet?image=image&features=a", "features=a of parquet with images; expected image or features"),
        ("colour.parquet?image=image&size=3", "size=3 for images of 4×4 pixels; expected one of 4, 2, 1"),
        ("colour.parquet?image=image&size=0", "size=0 for images of 4×4 pixels; expected one of 4, 2, 1"),
        ("grey.parquet?image=picture&label=digit&size=1", "size=1 for images of 4×6 pixels; expected one of 4, 2"),
        ("colour.parquet?image=image&test_file=none", "none does not exist; expected a file"),
        ("colour.parquet?image=image&channels=2", "channels=2 of parquet; expected one of 1, 3"),
        ("colour.parquet?image=image&test_file=grey.parquet", "grey.parquet has no column 'label'; expected one of"),
    ],
)
def test_refused_specifications(folder: Path, rest: str, message: str) -> None:
    found = refusal(f"parquet:{rest}", folder)
    assert found.removeprefix(f"{folder}/").startswith(message)


def test_parquet_names_a_file(folder: Path) -> None:
    assert refusal("parquet", folder) == "parquet names no file; expected parquet:FILE?image=COLUMN&label=COLUMN"


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (
            encoded(COLOUR[0, :3]),
            "the image in row 1 of odd.parquet is colour, 3×4 pixels; expected colour, 4×4",
        ),
        (encoded(COLOUR[0, :, :, 0]), "the image in row 1 of odd.parquet is grey, 4×4 pixels; expected colour, 4×4 pi"),
        (encoded(GREY[0].astype(np.uint16)), "the image in row 1 of odd.parquet is of Pillow's mode I;16; expected 8"),
        (encoded(COLOUR[0])[:50], "row 1 of odd.parquet holds no image; expected PNG or JPEG bytes"),
        (b"no image", "row 1 of odd.parquet holds no image; expected PNG or JPEG bytes"),
        (None, "row 1 of odd.parquet holds no image; expected PNG or JPEG bytes"),
    ],
)
def test_the_first_image_that_is_unlike_the_first_row_is_named(folder: Path, odd: bytes | None, message: str) -> None:
    write(folder / "odd.parquet", image=[encoded(COLOUR[0]), odd, encoded(COLOUR[1])], label=[0, 1, 0])
    spec = "parquet:colour.parquet?image=image&test_file=odd.parquet&test=all"
    assert refusal(spec, folder).startswith(message)


def test_paths_instead_of_bytes_missing_labels_and_damaged_files(folder: Path) -> None:
    structs = [{"bytes": None, "path": "1.png"}, {"bytes": None, "path": "2.png"}]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    write(folder / "paths.parquet", image=pyarrow.array(structs, kind), label=[0, 1])
    assert "row 0 of paths.parquet holds no image" in refusal("parquet:paths.parquet?image=image", folder)
    write(folder / "missing.parquet", a=[1.0, 2.0], label=[0, None])
    message = "the column label of missing.parquet holds 1 missing labels; expected integer class labels from 0"
    assert refusal("parquet:missing.parquet", folder).startswith(message)
    whole = (folder / "table.parquet").read_bytes()
    for damaged in (whole[:-20], whole[:200] + bytes(40) + whole[240:], b"text"):
        (folder / "damaged.parquet").write_bytes(damaged)
        assert refusal("parquet:damaged.parquet", folder).startswith(str(folder / "damaged.parquet"))
    write(folder / "gap.parquet", a=[1.0, None, 3.0], label=[0, 1, 0])
    assert "of gap holds NaN or infinite values in 1 of" in refusal("parquet:gap.parquet?test_file=gap.parquet", folder)


def test_cifar10_by_its_columns_is_cifar10(mdtree_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_DATA", str(mdtree_data / "cifar10"))
    scale = "mean=0.4914,0.4822,0.4465&std=0.2470,0.2435,0.2616"
    rest = "train=100&seed=1&size=8&only=2,7"
    named = load_data(f"cifar10:$MY_DATA?{rest}")
    spec = f"parquet:$MY_DATA/train.parquet?image=image&label=label&test_file=$MY_DATA/test.parquet&{scale}&{rest}"
    data = load_data(spec)
    for key in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(data, key), getattr(named, key))
