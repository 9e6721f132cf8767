"""How pictures were prepared, out of Hugging Face's and timm's files: equal to transformers' own pixels, or refused."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mdtree.data import load_data
from mdtree.datasets.image_scaling import ImageScaling
from mdtree.datasets.preprocessor_config import preprocessor_scaling, timm_scaling
from mdtree.errors import InputError

PHOTOGRAPH = Image.fromarray(np.random.default_rng(0).integers(0, 256, (61, 90, 3), dtype=np.uint8))

VIT = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 32, "width": 24},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.25, 0.2],
}
CLIP = {"feature_extractor_type": "CLIPFeatureExtractor", "size": 33, "crop_size": 30, "resample": 3}


@pytest.mark.parametrize(
    ("processor", "config"),
    [
        ("vit", VIT),
        ("vit", {"feature_extractor_type": "ViTFeatureExtractor", "size": 30}),
        ("vit", {**VIT, "do_normalize": False}),
        ("vit", {**VIT, "rescale_factor": 1 / 127.5}),
        ("vit", {**VIT, "do_resize": False}),
        ("clip", CLIP),
        ("clip", {**CLIP, "image_processor_type": "CLIPImageProcessorFast", "do_center_crop": False}),
        ("clip", {**CLIP, "size": {"shortest_edge": 47}, "crop_size": {"height": 30, "width": 40}}),
        ("deit", {"image_processor_type": "DeiTImageProcessor", "size": 40, "crop_size": 33}),
        ("beit", {"image_processor_type": "BeitImageProcessor", "size": {"height": 40, "width": 40}}),
        ("siglip", {"image_processor_type": "SiglipImageProcessor", "size": {"height": 40, "width": 40}}),
        ("bit", {"image_processor_type": "BitImageProcessor"}),
        ("mobilenet_v2", {"image_processor_type": "MobileNetV2ImageProcessor"}),
        ("convnext", {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 40}}),
        ("convnext", {"image_processor_type": "ConvNextImageProcessor", "size": 39, "crop_pct": 0.95}),
        ("convnext", {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}}),
    ],
)
def test_pixels_are_those_of_transformers(processor: str, config: dict[str, Any]) -> None:
    module = importlib.import_module(f"transformers.models.{processor}.image_processing_pil_{processor}")
    kind = next(value for name, value in vars(module).items() if name.endswith("ImageProcessorPil"))
    arguments = {key: value for key, value in config.items() if not key.endswith("_type")}
    expected = kind(**arguments)(PHOTOGRAPH, return_tensors="np")["pixel_values"][0]
    found = preprocessor_scaling(config, "here").apply(PHOTOGRAPH)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_files_folders_and_what_the_report_says(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        PHOTOGRAPH.save(tmp_path / "pictures" / name / "1.png")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(VIT))
    for named in ("model", "model/preprocessor_config.json"):
        data = load_data(f"imagefolder:pictures?preprocessor={named}", tmp_path)
        np.testing.assert_array_equal(data.x_train[0].numpy(), preprocessor_scaling(VIT, "").apply(PHOTOGRAPH))
    assert data.normalisation == (
        "resized to 32×24 pixels (bilinear), pixels in 0...1, mean 0.5 0.4 0.3, standard deviation 0.5 0.25 0.2"
    )
    (tmp_path / "model" / "config.json").write_text(json.dumps({"architecture": "x", "pretrained_cfg": TIMM}))
    data = load_data("imagefolder:pictures?timm=model", tmp_path)
    assert data.normalisation.startswith("shorter side resized to 35 pixels (bicubic), centre of 32×32 pixels, pixels")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"do_flip_channel_order": True},
            "here says do_flip_channel_order, which may change pixels and is not underst",
        ),
        ({"image_processor_type": "LevitImageProcessor"}, "here is of LevitImageProcessor; expected one of ViT, DeiT"),
        ({"image_processor_type": None}, "here names no image_processor_type; expected one of ViT"),
        ({"image_processor_type": "a\nb"}, r"here is of 'a\nb'; expected one of ViT"),
        ({"crop_pct": 0.9}, "here says crop_pct, which may change pixels and is not understood; say size="),
        ({"resample": 9}, "resample of here is 9; expected Pillow's number of a filter, 0 to 5"),
        ({"image_std": [1, 0, 1]}, "image_std of here does not fit image_mean, or holds 0"),
        ({"image_mean": [0.5, 0.5]}, "image_mean of here is [0.5, 0.5]; expected 1 or 3 numbers"),
        ({"image_mean": "x"}, "image_mean of here is x; expected 1 or 3 numbers"),
        ({"size": {"longest_edge": 5}}, "size of here is {'longest_edge': 5}; expected shortest_edge, or height and"),
        ({"size": -1}, "size of here is {'height': -1, 'width': -1}; expected shortest_edge"),
        ({"size": 10**9}, "size of here is {'height': 1000000000, 'width': 1000000000}; expected shortest_edge"),
        ({"resample": [2]}, "resample of here is [2]; expected Pillow's number of a filter"),
        ({"image_std": [float("nan")] * 3}, "image_std of here is [nan, nan, nan]; expected 1 or 3 numbers"),
        ({"image_mean": 10**400}, "image_mean of here is 1000"),
        ({"rescale_factor": 0}, "rescale_factor of here is 0; expected a number above 0"),
        (
            {"do_center_crop": True, "crop_size": 40},
            "crop_size of here is larger than size; expected one that lies ins",
        ),
    ],
)
def test_settings_that_are_not_understood_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        preprocessor_scaling({**VIT, **change}, "here")
    assert str(caught.value).startswith(message)


def test_settings_without_effect_on_the_pixels_are_passed_over() -> None:
    harmless = {"do_convert_rgb": True, "_processor_class": "X", "do_pad": False, "do_flip_channel_order": None}
    assert preprocessor_scaling({**VIT, **harmless}, "here") == preprocessor_scaling(VIT, "here")


TIMM = {
    "input_size": [3, 32, 32],
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
}


def test_timms_rules_for_evaluation() -> None:
    """Resize to floor(size / crop_pct), then the centre; squash resizes both sides; what is not said is ImageNet's."""
    assert timm_scaling(TIMM, "here") == ImageScaling(35, (32, 32), "bicubic", (0.5,) * 3, (0.2,) * 3)
    squash = timm_scaling({**TIMM, "crop_mode": "squash", "input_size": (3, 32, 16)}, "here")
    assert (squash.resize, squash.crop) == ((35, 17), (32, 16))
    bare = timm_scaling({"input_size": [3, 224, 224]}, "here")
    assert (bare.resize, bare.crop, bare.interpolation, bare.mean) == (
        256,
        (224, 224),
        "bicubic",
        (0.485, 0.456, 0.406),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_mode": "border"}, "crop_mode border or interpolation bicubic of here; expected center or squash"),
        ({"interpolation": "random"}, "crop_mode center or interpolation random of here; expected center or squash"),
        ({"input_size": [3, 32]}, "input_size or crop_pct of here cannot be used"),
        ({"crop_pct": 1e-300}, "input_size or crop_pct of here cannot be used"),
        ({"crop_pct": 2}, "input_size or crop_pct of here cannot be used"),
        ({"input_size": [3, 32, 16]}, "input_size of here is not square"),
        ({"input_size": [1, 32, 32]}, "mean or std of here does not fit 1 channels"),
    ],
)
def test_timm_settings_that_cannot_be_used(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        timm_scaling({**TIMM, **change}, "here")
    assert str(caught.value).startswith(message)


def test_files_that_hold_no_settings(tmp_path: Path) -> None:
    (tmp_path / "text.json").write_text("no")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "other.json").write_text('{"model_type": "bert"}')
    for option, message in (
        ("preprocessor=text.json", "text.json is no JSON file"),
        ("preprocessor=deep.json", "deep.json is no JSON file"),
        ("preprocessor=list.json", "list.json holds no JSON object"),
        ("preprocessor=nothing", "nothing does not exist"),
        ("timm=other.json", "other.json holds no data settings of timm; expected pretrained_cfg with input_size"),
    ):
        with pytest.raises(InputError) as caught:
            load_data(f"imagefolder:.?{option}", tmp_path)
        assert message in str(caught.value)


def test_a_name_that_timm_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """timm needs torchvision, which does not run beside every torch; what is asked of it is one function."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        PHOTOGRAPH.save(tmp_path / name / "1.png")
    monkeypatch.setitem(sys.modules, "timm.models", None)
    with pytest.raises(InputError, match=r"needs the package timm; pip install 'mdtree-diagnosis\[timm\]'"):
        load_data("imagefolder:.?timm=resnet18", tmp_path)

    class Settings:
        def to_dict(self) -> dict[str, Any]:
            return TIMM

    timm, models = ModuleType("timm"), ModuleType("timm.models")
    models.get_pretrained_cfg = {"resnet18": Settings()}.get  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "timm.models", models)
    assert load_data("imagefolder:.?timm=resnet18", tmp_path).input_shape == (3, 32, 32)
    with pytest.raises(InputError, match="timm knows no network resnet19"):
        load_data("imagefolder:.?timm=resnet19", tmp_path)
