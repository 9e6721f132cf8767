"""Which network a checkpoint is of: who is asked first, whose functions are called, what to write if nobody knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mdtree.errors import InputError
from mdtree.models import build_model
from mdtree.networks.network_source import DataSource, NetworkSource, data_source, network_source


@dataclass(frozen=True)
class Opened:
    """What an opened checkpoint tells."""

    path: Path = Path("run7.pt")
    state: Mapping[str, Tensor] = field(default_factory=lambda: {"stem.weight": torch.ones(16, 3, 3, 3)})
    model_spec: str | None = None
    data_spec: str | None = None
    framework: str = "pytorch"
    network: str | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)
    program: object = None


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with settings of its own."""
    (tmp_path / "pyproject.toml").write_text('[tool.mdtree]\nmodel = "nets:make"\ndata = "npz:train.npz"')
    return tmp_path


RECOGNISED = build_model("mlp?width=4&depth=1&inputs=3&classes=2").state_dict()
BERT = {"config.json": {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}}


def test_the_first_that_speaks_decides(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    folder = tmp_path_factory.mktemp("run")
    everything = Opened(folder, RECOGNISED, "mlp?width=8", None, "transformers", "timm:resnet18", BERT)
    assert network_source(everything, "mlp?width=16", directory=project) == NetworkSource(
        "mlp?width=16", "--model", project
    )
    assert network_source(everything, directory=project) == NetworkSource("mlp?width=8", "the file's manifest", project)
    silent = Opened(folder, RECOGNISED, None, None, "transformers", "timm:resnet18", BERT)
    settings = network_source(silent, directory=project)
    assert settings == NetworkSource("nets:make", "[tool.mdtree] in pyproject.toml", project)
    assert network_source(silent, directory=elsewhere) == NetworkSource(f"transformers:{folder}", "config.json")
    timm = Opened(folder, RECOGNISED, None, None, "timm", "timm:resnet18?num_classes=10")
    assert network_source(timm, directory=elsewhere) == NetworkSource(
        "timm:resnet18?num_classes=10", "arch in the file"
    )
    recognised = network_source(Opened(state=RECOGNISED), directory=elsewhere)
    assert (recognised.spec, recognised.source) == ("mlp?width=4&depth=1&inputs=3&classes=2", "names and shapes")
    assert recognised.proposed


def test_a_config_beside_a_file_is_named_by_its_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.touch()
    assert network_source(Opened(file, beside=BERT), directory=tmp_path).spec == f"transformers:{tmp_path}"


def test_a_config_of_timm_names_its_architecture(tmp_path: Path) -> None:
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 5,
        "pretrained_cfg": {},
        "model_args": {"img_size": 32},
    }
    found = network_source(Opened(beside={"config.json": config}), directory=tmp_path)
    assert (found.spec, found.source) == ("timm:vit_tiny_patch16_224?num_classes=5&img_size=32", "config.json")


def test_a_network_of_timm_inside_transformers_is_that_of_timm(tmp_path: Path) -> None:
    config = {
        "model_type": "timm_wrapper",
        "architecture": "resnet18",
        "id2label": {"0": "cat", "1": "dog", "2": "cow"},
    }
    found = network_source(Opened(beside={"config.json": config}), directory=tmp_path)
    assert found == NetworkSource("timm:resnet18?num_classes=3", "config.json")


def test_a_config_of_something_else_is_passed_over(tmp_path: Path) -> None:
    for config in ({"lr": 0.1}, {"architecture": "mine"}, ["bert"], None):
        with pytest.raises(InputError, match="does not say which network it is"):
            network_source(Opened(beside={"config.json": config}), directory=tmp_path)


@pytest.mark.parametrize("place", ["model_spec", "network"])
def test_a_function_that_the_file_names_is_called_only_with_trust(tmp_path: Path, place: str) -> None:
    opened = Opened(**{place: "evil:run?x=1"})  # type: ignore[arg-type]
    with pytest.raises(InputError) as error:
        network_source(opened, directory=tmp_path)
    assert str(error.value) == (
        "run7.pt names the function evil:run?x=1 to build its network; nothing that a checkpoint names is called "
        "unasked; if the file is yours add --trust, or name it yourself: --model 'evil:run?x=1'"
    )
    assert network_source(opened, trust=True, directory=tmp_path).spec == "evil:run?x=1"


@pytest.mark.parametrize("spec", ["cnn?width=4", "timm:resnet18", "torchvision:resnet18", "transformers:folder"])
def test_networks_that_call_nobody_need_no_trust(tmp_path: Path, spec: str) -> None:
    assert network_source(Opened(model_spec=spec), directory=tmp_path).spec == spec


def test_if_nobody_knows_the_lines_to_write_are_shown(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        network_source(Opened(), directory=tmp_path)
    first, second, third = str(error.value).splitlines()
    assert first == (
        "run7.pt does not say which network it is (1 tensors, first stem.weight 16×3×3×3); "
        "write a function that builds it, say in nets.py:"
    )
    assert second == "    def make(): return Net(...)"
    assert third == (
        "then: mdtree diagnose run7.pt --model nets:make --data npz:FILE "
        '(or put model = "nets:make" under [tool.mdtree] in pyproject.toml)'
    )


def test_the_lines_name_no_data_where_they_are_known_and_the_users_own_file(project: Path) -> None:
    (project / "pyproject.toml").write_text('[tool.mdtree]\ndata = "npz:train.npz"')
    with pytest.raises(InputError) as error:
        network_source(Opened(framework="lightning"), directory=project)
    assert "def make(): return MyLightningModule(...)" in str(error.value)
    assert "--data" not in str(error.value)
    assert f"under [tool.mdtree] in {project / 'pyproject.toml'}" in str(error.value)


def test_names_from_the_file_are_shown_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        network_source(Opened(state={"a\n\x1b[31mmdtree: all is well": torch.ones(1)}), directory=tmp_path)
    assert "\x1b" not in str(error.value)
    assert len(str(error.value).splitlines()) == 3


def test_data_are_found_in_the_same_order(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert data_source(Opened(data_spec="digits"), "npz:a.npz", directory=project) == DataSource(
        "npz:a.npz", "--data", project
    )
    assert data_source(Opened(data_spec="digits"), directory=project) == DataSource(
        "digits", "the file's manifest", project
    )
    settings = data_source(Opened(), directory=project)
    assert settings == DataSource("npz:train.npz", "[tool.mdtree] in pyproject.toml", project)
    with pytest.raises(
        InputError, match=r"^run7.pt does not say what it was trained on; give it: mdtree diagnose run7.pt --data"
    ):
        data_source(Opened(), directory=tmp_path_factory.mktemp("elsewhere"))
    with pytest.raises(InputError, match=r"names the function evil:load to load its data"):
        data_source(Opened(data_spec="evil:load"), directory=project)
    assert data_source(Opened(data_spec="evil:load"), trust=True, directory=project).spec == "evil:load"
