"""Pictures in class folders: which are read, which class they are, what becomes of their pixels, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mdtree import free_memory
from mdtree.data import load_data
from mdtree.datasets import image_folder
from mdtree.datasets.image_scaling import ImageScaling
from mdtree.errors import InputError, ResourceError

RANDOM = np.random.default_rng(0)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def picture(path: Path, columns: int = 9, rows: int = 7, mode: str = "RGB", **how: Any) -> Image.Image:
    """A picture of noise, written to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(RANDOM.integers(0, 256, (rows, columns, 3), dtype=np.uint8)).convert(mode)
    image.save(path, **how)
    return image


def grey(path: Path, level: int) -> None:
    """A picture of 4×4 pixels of one level, so that inputs tell which file they come from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), level).save(path)


def levels(x: Tensor) -> list[int]:
    return (x.mean(dim=(1, 2, 3)) * 255).round().int().tolist()


def refusal(spec: str, directory: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_data(spec, directory)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """``train`` and ``val`` with the classes b, a, C; level = 10 times the file's number, 100 more in ``val``."""
    for number, name in enumerate(["C", "C", "a", "a", "b", "b"]):
        grey(tmp_path / "pictures" / "train" / name / f"{number}.png", 10 * number)
        grey(tmp_path / "pictures" / "val" / name / f"{number}.png", 100 + 10 * number)
    return tmp_path


def by_torchvision(image: Image.Image, resize: int, crop: int) -> np.ndarray[Any, Any]:
    """Resize(resize), CenterCrop(crop), ToTensor(), Normalize(imagenet) of torchvision, written out for pictures."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    longer = int(resize * long / short)
    image = image.resize((resize, longer) if width <= height else (longer, resize), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    top, left = (int(round((side - crop) / 2.0)) for side in pixels.shape[:2])  # noqa: RUF046  # as there
    pixels = pixels[top : top + crop, left : left + crop]
    mean, std = (np.array(numbers, np.float32) for numbers in IMAGENET)
    return ((pixels.astype(np.float32) / np.float32(255) - mean) / std).transpose(2, 0, 1)


@pytest.mark.parametrize(("columns", "rows"), [(9, 7), (7, 10), (40, 33), (33, 47)])
@pytest.mark.parametrize(("resize", "crop"), [(12, 7), (8, 8), (11, 4)])
def test_pixels_are_torchvisions(tmp_path: Path, columns: int, rows: int, resize: int, crop: int) -> None:
    """Shrinking and enlarging, upright and lying, margins odd and even: the very same floats."""
    images = [picture(tmp_path / name / "1.png", columns, rows) for name in ("a", "b")]
    scale = "mean=imagenet&std=imagenet"
    data = load_data(f"imagefolder:.?resize={resize}&size={crop}&{scale}", tmp_path)
    for x, y in zip(data.x_train, data.y_train, strict=True):
        np.testing.assert_array_equal(x.numpy(), by_torchvision(images[y], resize, crop))
    assert data.normalisation.endswith("mean 0.485 0.456 0.406, standard deviation 0.229 0.224 0.225")


def test_size_alone_is_both_the_resize_and_the_crop(tmp_path: Path) -> None:
    images = [picture(tmp_path / name / "1.png") for name in ("a", "b")]
    data = load_data("imagefolder:.?size=6&mean=imagenet&std=imagenet", tmp_path)
    for x, y in zip(data.x_train, data.y_train, strict=True):
        np.testing.assert_array_equal(x.numpy(), by_torchvision(images[y], 6, 6))
    assert data.normalisation.startswith("shorter side resized to 6 pixels (bilinear), centre of 6×6 pixels, pixels in")


@pytest.mark.parametrize(
    ("options", "size", "words"),
    [
        ("size=6&crop=squash", (6, 6), "resized to 6×6 pixels (bilinear), pixels in 0...1"),
        ("size=6x5&crop=squash&interpolation=bicubic", (5, 6), "resized to 6×5 pixels (bicubic), pixels in 0...1"),
        ("size=14&crop=none", (18, 14), "shorter side resized to 14 pixels (bilinear), pixels in 0...1"),
        ("", (9, 7), "pixels in 0...1"),
    ],
)
def test_other_crops(tmp_path: Path, options: str, size: tuple[int, int], words: str) -> None:
    images = [picture(tmp_path / name / "1.png") for name in ("a", "b")]
    data = load_data(f"imagefolder:.?{options}".rstrip("?"), tmp_path)
    kind = Image.Resampling.BICUBIC if "bicubic" in options else Image.Resampling.BILINEAR
    expected = [np.asarray(image.resize(size, kind)).transpose(2, 0, 1).astype(np.float32) / 255 for image in images]
    np.testing.assert_array_equal(data.x_train.numpy(), np.stack([expected[y] for y in data.y_train]))
    assert data.normalisation == words


def test_what_a_crop_lacks_is_black() -> None:
    """As torchvision's CenterCrop pads: an odd margin is wider behind."""
    pixels = np.asarray(ImageScaling(crop=(4, 7)).apply(Image.new("L", (4, 5), 255)))[0]
    assert pixels.shape == (4, 7)
    assert pixels[0].tolist() == [0, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_what_torchvision_makes_of_it(tmp_path: Path, mode: str) -> None:
    kind = {"CMYK": "tif"}.get(mode, "png")
    for name in ("a", "b"):
        picture(tmp_path / name / f"1.{kind}", mode=mode)
    colour = [np.asarray(Image.open(tmp_path / name / f"1.{kind}").convert("RGB")) for name in ("a", "b")]
    levels = [np.asarray(Image.fromarray(pixels).convert("L"))[:, :, None] for pixels in colour]
    for channels, expected in ((3, colour), (1, levels)):
        data = load_data(f"imagefolder:.?channels={channels}", tmp_path)
        for x, y in zip(data.x_train, data.y_train, strict=True):
            np.testing.assert_array_equal(x.numpy().transpose(1, 2, 0), expected[y].astype(np.float32) / 255)


def test_the_orientation_in_a_photograph_is_left_aside(tmp_path: Path) -> None:
    """torchvision's loader does not turn pictures, so the network saw them lying."""
    turned = Image.Exif()
    turned[0x0112] = 6
    for name in ("a", "b"):
        picture(tmp_path / name / "1.jpg", exif=turned)
    assert load_data("imagefolder:.", tmp_path).input_shape == (3, 7, 9)


def test_train_and_val_with_classes_in_the_order_of_their_names(split: Path) -> None:
    data = load_data("imagefolder:pictures", split)
    assert data.num_classes == 3
    assert {level: label for level, label in zip(levels(data.x_train), data.y_train.tolist(), strict=True)} == {
        **{0: 0, 10: 0},  # capitals first, as torchvision sorts
        **{20: 1, 30: 1},
        **{40: 2, 50: 2},
    }
    assert sorted(zip(levels(data.x_test), data.y_test.tolist(), strict=True)) == [
        (100 + 10 * number, number // 2) for number in range(6)
    ]
    assert data.notes == ("the test set is the folder val",)
    assert (data.name, data.train_size_full, data.test_part) == ("pictures", 6, "all")


def test_the_halves_of_a_test_set_sorted_by_class_hold_several_classes(tmp_path: Path) -> None:
    for number in range(24):
        for part in ("train", "test"):
            grey(tmp_path / part / f"class{number // 12}" / f"{number}.png", number)
    halves = [load_data(f"imagefolder:.?test={half}", tmp_path) for half in ("first_half", "second_half")]
    assert all(set(half.y_test.tolist()) == {0, 1} for half in halves)
    assert sorted(levels(torch.cat([half.x_test for half in halves]))) == list(range(24))


def test_bare_class_folders_are_training_data_unless_said_otherwise(split: Path) -> None:
    data = load_data("imagefolder:pictures/train", split)
    assert (len(data.x_train), data.x_test) == (6, None)
    assert data.notes == ("all pictures are training data: there is no test set (test_dir= names one)",)
    named = load_data("imagefolder:pictures/train?test_dir=pictures/val", split)
    assert sorted(levels(named.x_test)) == [100, 110, 120, 130, 140, 150]
    held = load_data("imagefolder:pictures/train?held_out=0.34", split)
    assert (len(held.x_train), len(held.x_test)) == (4, 2)
    assert sorted(levels(torch.cat([held.x_train, held.x_test]))) == [0, 10, 20, 30, 40, 50]
    assert "2 pictures drawn by a fixed seed are the test set" in held.notes[0]
    assert torch.equal(load_data("imagefolder:pictures/train?held_out=0.34&seed=5", split).x_test, held.x_test)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for number, name in enumerate(("bus", "train")):
        grey(tmp_path / name / "1.png", 50 * number)
    data = load_data("imagefolder:.", tmp_path)
    assert sorted(zip(levels(data.x_train), data.y_train.tolist(), strict=True)) == [(0, 0), (50, 1)]


@pytest.mark.parametrize(
    ("content", "numbers"),
    [
        (None, {"C": 2, "a": 0, "b": 1}),
        (["b", "C", "a"], {"C": 1, "a": 2, "b": 0}),
        ({"b": 1, "C": 0, "a": 2}, {"C": 0, "a": 2, "b": 1}),
        ({"model_type": "vit", "label2id": {"a": 1, "b": 0, "C": 2, "d": 3}}, {"C": 2, "a": 1, "b": 0}),
    ],
)
def test_classes_in_the_networks_order(split: Path, content: Any, numbers: dict[str, int]) -> None:
    (split / "classes.json").write_text(json.dumps(content))
    data = load_data(f"imagefolder:pictures?classes={'a,b,C' if content is None else 'classes.json'}", split)
    expected = {10 * n: numbers[name] for n, name in enumerate(["C", "C", "a", "a", "b", "b"])}
    assert dict(zip(levels(data.x_train), data.y_train.tolist(), strict=True)) == expected
    assert data.num_classes == (4 if isinstance(content, dict) and "label2id" in content else 3)


def test_a_part_is_chosen_as_of_every_data_set_and_only_that_is_decoded(
    split: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    real = image_folder.read_image

    def recorded(file: Path, channels: int | None, where: str) -> Image.Image:
        read.append(file)
        return real(file, channels, where)

    monkeypatch.setattr(image_folder, "read_image", recorded)
    data = load_data("imagefolder:pictures?train=2&only=2,0&test=first_half&seed=3", split)
    assert data.class_counts == (1, 1)
    assert all(
        level in ((40, 50), (0, 10))[label] for level, label in zip(levels(data.x_train), data.y_train, strict=True)
    )
    assert len(read) == 2 + 2  # half of the four test pictures of these classes
    noisy = load_data("imagefolder:pictures?label_noise=1", split)
    assert all(label != level // 20 for level, label in zip(levels(noisy.x_train), noisy.y_train.tolist(), strict=True))


def test_the_order_of_files_is_torchvisions_and_not_the_disks(tmp_path: Path) -> None:
    """Which pictures ``train=N`` takes hangs on it: folders by their whole path, in each its files, capitals first."""
    names = ["z.png", "b/1.png", "A.png", "b/c/0.png", "a/9.png", "b.png", "B/3.png", "b-/2.png"]
    for name in names:
        grey(tmp_path / "a" / name, 10)
    grey(tmp_path / "b" / "1.png", 0)
    found = [str(path.relative_to(tmp_path / "a")) for path in image_folder._files_below(tmp_path / "a")]
    assert found == ["A.png", "b.png", "z.png", "B/3.png", "a/9.png", "b/1.png", "b-/2.png", "b/c/0.png"]


def test_folders_inside_links_and_other_files(tmp_path: Path) -> None:
    grey(tmp_path / "elsewhere" / "linked" / "3.png", 30)
    for name, level in (("a/1.PNG", 10), ("a/deep/er/2.png", 20), ("b/4.png", 40)):
        grey(tmp_path / "all" / name, level)
    (tmp_path / "all" / "a" / "notes.txt").write_text("not a picture")
    (tmp_path / "all" / "b" / "link").symlink_to(tmp_path / "elsewhere" / "linked")
    data = load_data("imagefolder:all", tmp_path)
    assert dict(zip(levels(data.x_train), data.y_train.tolist(), strict=True)) == {10: 0, 20: 0, 30: 1, 40: 1}
    (tmp_path / "all" / "a" / "deep" / "up").symlink_to(tmp_path / "all" / "a")
    assert "links back to a folder above it; remove the link" in refusal("imagefolder:all", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=0", "size=0 of imagefolder; expected pixels, size=224, or rows and columns, size=256x128"),
        ("size=4&resize=3", "resize=3 of imagefolder is smaller than size=4; expected at least as large"),
        ("crop=center", "crop=center of imagefolder without size; expected size=224 too"),
        ("size=4&crop=squash&resize=9", "resize=9 of imagefolder with crop=squash; expected size alone"),
        ("size=4x5&crop=none", "size=4x5 of imagefolder with crop=none; expected the length of the shorter side"),
        ("interpolation=linear", "interpolation=linear of imagefolder; expected one of bilinear, bicubic"),
        ("mean=imagnet", "mean=imagnet of imagefolder; expected numbers, mean=0.5 or mean=0.49,0.48,0.45, or one of"),
        ("mean=0.5,0.5", "mean=0.5,0.5 of imagefolder is 2 numbers for 3 channels; expected 1 or 3 numbers"),
        ("mean=imagenet&channels=1", "mean=imagenet of imagefolder is 3 numbers for 1 channels; expected one number"),
        ("std=0", "std=0 of imagefolder; expected numbers other than 0"),
        ("held_out=1", "held_out=1 of imagefolder; expected a share between 0 and 1, for instance held_out=0.2"),
        ("held_out=0.2&test_dir=pictures/val", "test_dir and held_out of imagefolder; expected one of them"),
        ("test_dir=nowhere", "nowhere is not a folder; expected imagefolder:DIR with one folder for each class"),
        (
            "classes=a,b",
            "pictures/train holds a folder C, which is none of the classes; expected a, b; name the classes",
        ),
        ("classes=a,a,C", "classes=a,a,C of imagefolder; expected different names, classes=a,b,c, or a JSON list"),
        ("classes=no.json", "no.json does not exist; expected a file"),
        ("train=7", "train=7 of pictures; expected at most 6, all there are"),
        ("preprocessor=x&mean=none", "mean and preprocessor of imagefolder; expected preprocessor alone"),
        (
            "shape=1",
            "unknown option 'shape' of imagefolder; expected one of train, label_noise, seed, test, only, size",
        ),
    ],
)
def test_refused_options(split: Path, options: str, message: str) -> None:
    assert refusal(f"imagefolder:pictures?{options}", split).removeprefix(f"{split}/").startswith(message)


def test_folders_that_are_no_image_folders(split: Path) -> None:
    assert refusal("imagefolder", split).startswith("imagefolder names no folder; expected imagefolder:DIR?size=224")
    assert "nowhere is not a folder" in refusal("imagefolder:nowhere", split)
    assert "holds no class folders; expected one folder" in refusal("imagefolder:pictures/val/a", split)
    (split / "pictures" / "train" / "empty").mkdir()
    assert (
        "the class folder empty of pictures/train holds no picture (.jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff, "
        ".webp); expected at least one in every class, as torchvision asks; remove the folder"
    ) in refusal("imagefolder:pictures", split).replace(f"{split}/", "")
    (split / "pictures" / "train" / "empty").rmdir()
    grey(split / "pictures" / "val" / "d" / "1.png", 1)
    assert "holds a folder d, which is none of the classes; expected C, a, b" in refusal("imagefolder:pictures", split)


def test_the_picture_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    grey(tmp_path / "a" / "1.png", 10)
    odd = tmp_path / "b" / "2.png"
    whole = picture(odd)
    assert "comes out as" in refusal("imagefolder:.", tmp_path)
    assert "say size=224" in refusal("imagefolder:.", tmp_path)
    assert load_data("imagefolder:.?size=4", tmp_path).input_shape == (3, 4, 4)
    odd.write_bytes(odd.read_bytes()[:100])
    assert "b/2.png holds no image; expected PNG or JPEG bytes" in refusal("imagefolder:.?size=4", tmp_path)
    odd.write_bytes(b"<html>")
    assert "b/2.png holds no image" in refusal("imagefolder:.?size=4", tmp_path)
    odd.write_bytes(b"")
    assert "b/2.png is empty" in refusal("imagefolder:.?size=4", tmp_path)
    Image.fromarray(np.asarray(whole)[:, :, 0].astype(np.uint16) * 200).save(odd)
    assert "b/2.png is of Pillow's mode I;16; expected 8 bits a channel" in refusal("imagefolder:.?size=4", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "two\nlines.png",
            b"",
            r"b/two\nlines.png' is empty: the save or the copy did not finish; save or copy it again",
        ),
        ("two\nlines.png", b"no picture", r"b/two\nlines.png' holds no image"),
        (f"{'d' * 100}/{'e' * 100}/1.png", b"no picture", f"b/{'d' * 100}/{'e' * 100}/1.png holds no image"),
    ],
)
def test_names_of_files_stay_on_one_line_and_whole(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    grey(tmp_path / "a" / "1.png", 10)
    grey(tmp_path / "b" / name, 10)
    (tmp_path / "b" / name).write_bytes(content)
    assert message in refusal("imagefolder:.", tmp_path)


def test_a_picture_of_too_many_pixels_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file may hold a huge picture; Pillow refuses it, and its warning before that is not printed."""
    for name in ("a", "b"):
        picture(tmp_path / name / "1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 32)
    assert load_data("imagefolder:.", tmp_path).input_shape == (3, 7, 9)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 31)
    assert "has more than 62 pixels; expected an image of a network's size" in refusal("imagefolder:.", tmp_path)


def test_what_would_not_fit_in_memory_is_refused_before_it_is_read(
    split: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(free_memory, "free_memory", lambda: 10**6)
    spec = "imagefolder:pictures?size=100"
    with pytest.raises(ResourceError) as caught:
        load_data(spec, split)
    assert str(caught.value) == (
        "12 pictures of pictures would take 0.0 GB of memory, and 0.0 GB are free; expected at most 50 % of that; "
        "add train=N or test=first_half"
    )
    assert len(load_data(f"{spec}&train=1&test=first_half", split).x_train) == 1  # 4 of 120 kB


def test_free_memory_heeds_the_limit_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = free_memory.free_memory()
    assert machine is not None
    assert machine > 2**20
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(free_memory, "_CONTROL_GROUP", tmp_path)
    assert free_memory.free_memory() == 2000
    (tmp_path / "memory.max").write_text("max\n")
    monkeypatch.setattr(free_memory, "_MEMORY_INFORMATION", tmp_path / "none")
    assert free_memory.free_memory() is None
