"""A program of torch.export is measured as the network it was exported from."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from landscape import ClassificationData, Execution, Protocol, Samples, measure
from mdtree.errors import InputError
from mdtree.reading.exported_program import ExportedNetwork, open_program

IMAGES = torch.randn(48, 1, 6, 6, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(48) % 4


class Net(nn.Module):
    """A convolution, normalisation, a buffer that is not saved, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten())
        self.head = nn.Linear(48, 4)
        self.register_buffer("scale", torch.tensor(0.5), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x) * self.scale)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Net()
    made.body[1].running_mean.fill_(0.3)
    return made.eval()


@pytest.fixture(scope="module")
def program(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    batch = ({0: torch.export.Dim.DYNAMIC},)
    torch.export.save(torch.export.export(network, (IMAGES[:4],), dynamic_shapes=batch), path)
    return path


def test_it_has_the_names_and_the_outputs_of_the_network(network: nn.Module, program: Path) -> None:
    opened = open_program(program)
    assert list(opened.state_dict()) == list(network.state_dict())
    assert [name for name, _ in opened.named_parameters()] == [name for name, _ in network.named_parameters()]
    for batch in (IMAGES, IMAGES[:7]):
        assert torch.equal(opened(batch), network(batch))


def test_modes_change_nothing(network: nn.Module, program: Path) -> None:
    opened = open_program(program)
    assert opened.train() is opened
    assert opened.training
    assert torch.equal(opened(IMAGES), network(IMAGES))
    assert not opened.eval().training


def test_a_copy_is_independent_and_takes_another_precision(network: nn.Module, program: Path) -> None:
    opened = open_program(program)
    twin = copy.deepcopy(opened).double()
    assert isinstance(twin, ExportedNetwork)
    assert twin(IMAGES.double()).dtype == torch.float64
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not twin(IMAGES.double()).any()
    assert torch.equal(opened(IMAGES), network(IMAGES))


def test_it_is_measured_as_the_network_is(network: nn.Module, program: Path) -> None:
    data = ClassificationData(Samples(IMAGES, LABELS), Samples(IMAGES[:8], LABELS[:8]), num_classes=4)
    protocol = Protocol(samples=48, eigenvalues=1, density_probes=1, density_steps=4, trace="stochastic")
    execution = Execution(dtype="float64", batch_size=16)
    theirs, ours = (measure([model], data, protocol, execution) for model in (network, open_program(program)))
    for name in (
        "train_loss",
        "test_loss",
        "gradient_norm_squared_per_parameter",
        "hessian_top_eigenvalue",
        "hessian_trace",
        "parameter_count",
    ):
        assert ours.metrics[name].value == pytest.approx(theirs.metrics[name].value, rel=1e-9), name


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pt2"
    path.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(InputError, match=r"x\.pt2 cannot be loaded by torch .*; expected a program of torch.export"):
        open_program(path)
    with pytest.raises(InputError, match="does not exist"):
        open_program(tmp_path / "missing.pt2")
