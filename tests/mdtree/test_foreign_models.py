"""Networks of other packages by name: what a ``config.json`` of transformers may ask for, and what is refused.

Those of timm and torchvision are tested in tests/compat, where both packages are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor, nn

from mdtree.checkpoint import load_into, open_checkpoint
from mdtree.errors import InputError, ResourceError
from mdtree.models import build_model
from mdtree.networks.foreign_models import FOREIGN_MODELS
from mdtree.networks.transformers_config import IMAGE_TYPES, TEXT_TYPES, read_config
from mdtree.weights.transformers_names import names_in_files
from mdtree.weights.weight_names import fitting_state

TEXT = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
        "max_position_embeddings": 40, "embedding_size": 16}  # fmt: skip
PATCHES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
           "image_size": 32, "patch_size": 8}  # fmt: skip
STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
TINY: dict[str, dict[str, Any]] = {
    **dict.fromkeys(TEXT_TYPES, TEXT),
    **dict.fromkeys(("beit", "data2vec-vision", "deit", "dinov2", "vit", "vit_msn"), PATCHES),
    **dict.fromkeys(("convnext", "convnextv2", "poolformer"), STAGES),
    "distilbert": {"vocab_size": 50, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "modernbert": TEXT
    | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2},
    "mobilebert": TEXT | {"true_hidden_size": 8, "intra_bottleneck_size": 8},
    "rembert": TEXT | {"input_embedding_size": 8, "output_embedding_size": 8},
    "convbert": TEXT | {"head_ratio": 1},
    "squeezebert": TEXT
    | {f"{layer}_groups": 1 for layer in ("q", "k", "v", "post_attention", "intermediate", "output")},
    "bit": {"embedding_size": 32, "hidden_sizes": [32, 32, 64, 64], "depths": [1, 1, 1, 1], "num_groups": 8},
    "cvt": {"embed_dim": [8, 8, 16], "depth": [1, 2, 3], "num_heads": [1, 1, 2]},
    "efficientnet": {"width_coefficient": 0.2, "depth_coefficient": 0.2, "hidden_dim": 256},
    "focalnet": {"embed_dim": 8, "depths": [1, 1], "image_size": 32},
    "hiera": {"image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]},
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "mobilenet_v2": {"depth_multiplier": 0.35},
    "mobilevit": {"hidden_sizes": [16, 16, 16], "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 32]},
    "mobilevitv2": {"width_multiplier": 0.25},
    "pvt": STAGES | {"image_size": 64, "num_attention_heads": [1, 1, 2, 2]},
    "regnet": STAGES | {"embedding_size": 8, "groups_width": 4},
    "resnet": STAGES | {"embedding_size": 8, "layer_type": "basic"},
    "segformer": STAGES | {"num_attention_heads": [1, 1, 2, 2]},
    "swiftformer": {"embed_dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "swin": {
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "image_size": 32,
        "window_size": 4,
        "patch_size": 2,
    },
    "swinv2": {
        "embed_dim": 8,
        "depths": [1, 1],
        "num_heads": [2, 2],
        "image_size": 32,
        "window_size": 4,
        "patch_size": 2,
    },
}
BERT = {"model_type": "bert", "architectures": ["BertForSequenceClassification"], **TEXT, "num_labels": 3}


def head(model_type: str) -> str:
    return "ForSequenceClassification" if model_type in TEXT_TYPES else "ForImageClassification"


def save(folder: Path, model_type: str, **options: Any) -> nn.Module:
    """A tiny network with 3 labels, saved as its package saves it, and read back by it."""
    config = transformers.CONFIG_MAPPING[model_type](num_labels=3, **TINY[model_type])
    config.architectures = [f"Some{head(model_type)}"]
    automatic = getattr(transformers, f"AutoModel{head(model_type)}")
    torch.manual_seed(0)
    model = automatic.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # biases and position tables start at 0
    model.save_pretrained(folder, **options)
    read = automatic.from_pretrained(folder, attn_implementation="eager")
    assert isinstance(read, nn.Module)
    return read.eval()


def inputs(model_type: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    if model_type in TEXT_TYPES:
        mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2])
        return {"input_ids": torch.randint(5, 50, (2, 7), generator=generator), "attention_mask": mask}
    side = TINY[model_type].get("image_size", 64)
    return {"pixel_values": torch.randn(2, 3, *([side] * 2 if isinstance(side, int) else side), generator=generator)}


def write(folder: Path, config: object) -> Path:
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


@pytest.mark.parametrize("model_type", [*TEXT_TYPES, *IMAGE_TYPES])
def test_every_model_type_gives_the_logits_of_from_pretrained(model_type: str, tmp_path: Path) -> None:
    reference = save(tmp_path, model_type)
    model = build_model(f"transformers:{tmp_path}", num_classes=3, seed=0).eval()
    saved = safetensors.torch.load_file(tmp_path / "model.safetensors")
    fit = fitting_state(model.state_dict(), saved, aliases=names_in_files(model))
    assert fit.left_aside == ()
    model.load_state_dict(fit.state)
    given = inputs(model_type)
    with torch.no_grad():
        assert torch.equal(model(**given).logits, reference(**given).logits)
    # what is measured takes second derivatives
    parameters = [one for one in model.parameters() if one.requires_grad]
    loss = nn.functional.cross_entropy(model(**given).logits, torch.tensor([0, 2]))
    gradient = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    assert sum(one is None for one in gradient) <= 1
    squares = torch.stack([one.square().sum() for one in gradient if one is not None]).sum()
    products = torch.autograd.grad(squares, parameters, allow_unused=True)
    assert all(bool(torch.isfinite(one).all()) for one in products if one is not None)


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "vit", "convnext"])
def test_a_folder_of_save_pretrained_opens_whole_and_in_shards(model_type: str, tmp_path: Path) -> None:
    reference = save(tmp_path, model_type, max_shard_size="8KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    opened = open_checkpoint(tmp_path)
    model = load_into(build_model(f"transformers:{tmp_path}"), opened.state, opened.path).eval()
    with torch.no_grad():
        assert torch.equal(model(**inputs(model_type)).logits, reference(**inputs(model_type)).logits)


def test_names_in_files_are_found_inside_a_network_too(tmp_path: Path) -> None:
    reference = save(tmp_path, "vit")

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = build_model(f"transformers:{tmp_path}")

    names = names_in_files(Wrapped())
    query = "network.vit.layers.0.attention.q_proj.weight"
    assert names[query] == "network.vit.encoder.layer.0.attention.attention.query.weight"
    assert names_in_files(nn.Linear(2, 2)) == {}
    fit = fitting_state(Wrapped().state_dict(), safetensors.torch.load_file(tmp_path / "model.safetensors"),
                        aliases=names)  # fmt: skip
    assert torch.equal(fit.state[query], reference.vit.layers[0].attention.q_proj.weight)


def test_the_file_itself_may_be_named_and_paths_start_at_the_directory(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write(tmp_path / "run", BERT)
    for spec in ("transformers:run", "transformers:run/config.json"):
        assert type(build_model(spec, directory=tmp_path)).__name__ == "BertForSequenceClassification"


def test_weights_are_drawn_from_the_seed_in_single_precision(tmp_path: Path) -> None:
    write(tmp_path, BERT | {"dtype": "float16", "torch_dtype": "bfloat16"})
    one, again, other = (build_model(f"transformers:{tmp_path}", seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])
    assert {value.dtype for value in one.values() if value.is_floating_point()} == {torch.float32}


def test_what_decides_how_it_runs_is_set_aside(tmp_path: Path) -> None:
    asked = {"_attn_implementation": "flash_attention_2", "attn_implementation": "kernels-community/x", "to_dict": 1,
             "sub_configs": 3, "return_dict": False, "output_attentions": True, "_name_or_path": "e/repo"}  # fmt: skip
    write(tmp_path, BERT | asked)
    model = build_model(f"transformers:{tmp_path}")
    assert model.config._attn_implementation == "eager"
    assert model(input_ids=torch.tensor([[1, 2]])).logits.shape == (1, 3)
    assert callable(model.config.to_dict)
    assert model.config._name_or_path == ""


def test_a_configuration_without_labels_has_two(tmp_path: Path) -> None:
    write(tmp_path, {key: value for key, value in BERT.items() if key not in ("num_labels", "architectures")})
    assert build_model(f"transformers:{tmp_path}").classifier.out_features == 2
    write(tmp_path, BERT | {"id2label": {str(number): "x" for number in range(7)}})
    assert build_model(f"transformers:{tmp_path}").classifier.out_features == 7


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"auto_map": {"AutoModel": "evil--modeling.Evil"}}, "asks for code of its own (auto_map), which is never run"),
        ({"quantization_config": {"bits": 4}}, "describes quantised weights; expected weights in floating point"),
        ({"model_type": "llama"}, "is of model type 'llama'; expected one of albert, bert, "),
        ({"model_type": "bert\nmdtree: fine"}, "\\\\nmdtree: fine"),
        ({"model_type": 3}, "is of model type '3'"),
        ({"architectures": ["BertForTokenClassification"]}, "describes BertForTokenClassification, which is no "),
        ({"architectures": ["BertLMHeadModel"]}, "describes BertLMHeadModel, which is no classifier of whole texts"),
        ({"problem_type": "multi_label_classification"}, "describes a multi label classification; expected one label"),
        ({"problem_type": "regression"}, "describes a regression; expected"),
        ({"num_labels": 1}, "describes 1 output, a regression; expected 2 classes or more"),
        ({"num_labels": 2**20}, "describes 1,048,576 labels; expected at most 100,000"),
        ({"hidden_size": 10**9}, "hidden_size in"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers in"),
        ({"num_hidden_layers": 10**6}, "ValueError: more than 20,000 modules"),
        ({"initializer_range": float("inf")}, "initializer_range in"),
        ({"initializer_range": float("nan")}, "initializer_range in"),
        ({"hidden_size": -1}, "transformers cannot build the network of"),
        ({"hidden_act": "evil"}, "transformers cannot build the network of"),
        ({"hidden_size": "16"}, "transformers cannot build the network of"),
        ({"num_labels": 2}, "describes 2 labels, but the data has 3 classes"),
    ],
)  # fmt: skip
def test_what_is_no_known_classifier_is_refused_with_its_sentence(
    change: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    write(tmp_path, BERT | change)
    with pytest.raises(InputError) as error:
        build_model(f"transformers:{tmp_path}", num_classes=3)
    assert complaint in str(error.value)
    assert "config.json" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[" * 100_000, "is no JSON"),
        ('{"a": ' + "[" * 20 + "]" * 20 + "}", "is nested more than 8 levels deep"),
        ("[1, 2]", "holds a list"),
        ("{", "is no JSON"),
        ('{"a": "' + "x" * (4 * 2**20) + '"}', "has 4,194,"),
        ("", "is empty"),
        (b"\xff\xfe{}".decode("latin-1"), "is no JSON"),
        (json.dumps({"id2label": dict.fromkeys(map(str, range(100_001)), "")}), "has 100,001 entries"),
    ],
)
def test_hostile_files_are_refused(text: str, complaint: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    with pytest.raises(InputError) as error:
        build_model(f"transformers:{tmp_path}")
    assert complaint in str(error.value)


def test_eight_levels_are_read_and_nine_are_not(tmp_path: Path) -> None:
    write(tmp_path, '{"a": ' + "[" * 7 + "1" + "]" * 7 + "}")
    assert read_config(tmp_path / "config.json")["a"] == [[[[[[[1]]]]]]]
    write(tmp_path, '{"a": ' + "[" * 8 + "1" + "]" * 8 + "}")
    with pytest.raises(InputError, match="nested more than 8 levels deep"):
        read_config(tmp_path / "config.json")


def test_a_folder_without_a_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config.json does not exist"):
        build_model(f"transformers:{tmp_path}")
    with pytest.raises(InputError, match="unknown option 'x' of transformers"):
        build_model(f"transformers:{tmp_path}?x=1")


def test_a_configuration_of_another_size_than_the_weights_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    save(tmp_path, "bert")
    config = json.loads((tmp_path / "config.json").read_text())
    write(tmp_path, config | {"vocab_size": 10**7, "hidden_size": 2**14})
    with pytest.raises(InputError, match=r"describes 16.,...,...,... parameters, and model.safetensors beside it has"):
        build_model(f"transformers:{tmp_path}")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ResourceError, match=r"would take 6..\.. GB of memory"):
        build_model(f"transformers:{tmp_path}")


def test_images_must_have_the_channels_of_the_configuration(tmp_path: Path) -> None:
    save(tmp_path, "convnext")
    build_model(f"transformers:{tmp_path}", input_shape=(3, 64, 64))
    for shape in ((1, 64, 64), (3, 64)):
        with pytest.raises(InputError, match="takes images of 3 channels, the data has inputs of shape"):
            build_model(f"transformers:{tmp_path}", input_shape=shape)


def test_a_package_that_is_absent_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    for package in ("timm", "torchvision", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    write(tmp_path, BERT)
    for spec, extra in (("timm:x", "timm"), ("torchvision:x", "timm"), (f"transformers:{tmp_path}", "transformers")):
        with pytest.raises(InputError, match=rf"needs the package .*; run: pip install 'mdtree-diagnosis\[{extra}\]'"):
            build_model(spec)


def test_a_network_of_unknown_name_lists_the_packages() -> None:
    assert set(FOREIGN_MODELS) == {"timm", "torchvision", "transformers"}
    with pytest.raises(InputError, match=r"timm:..., torchvision:..., transformers:..., or package.module:factory"):
        build_model("nonsense")
