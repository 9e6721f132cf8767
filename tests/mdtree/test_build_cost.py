"""What a zoo will cost: counted exactly, timed on a few steps of the real thing."""

import json

import pytest
from click.testing import CliRunner

from mdtree.backends import Backend
from mdtree.build_cost import build_cost
from mdtree.cli.zoo import build_command, minutes
from mdtree.grid import build_zoo
from mdtree.spec_file import read_spec
from mdtree.zoo import read_zoo

SPECIFICATION = """
family = "tiny"
seeds = 3
[data]
name = "digits?shape=image"
train = [40, 80]
[model]
name = ["mlp", "resnet18"]
width = 2
[training]
learning_rate = [0.003, 0.05]
batch_size = 8
steps = 120
[protocol]
curve_steps = 100
"""


@pytest.fixture
def specification(tmp_path):
    file = tmp_path / "tiny.toml"
    file.write_text(SPECIFICATION)
    return file


def test_the_networks_are_counted_and_nothing_is_left_behind(specification):
    seen = []
    cost = build_cost(read_spec(specification), Backend(workers=2), progress=lambda name, share: seen.append(name))
    assert (cost.networks, cost.stacked, cost.cells, cost.units) == (24, 12, 8, 6)
    assert cost.wall_seconds == pytest.approx((cost.train_seconds + cost.measure_seconds) / 2)
    assert seen == ["mlp?width=2", "resnet18?width=2"]
    assert 2 * 100 < cost.memory_bytes / 2**20 < 2 * 8000
    assert [f.name for f in specification.parent.iterdir()] == ["tiny.toml"]


@pytest.mark.slow
def test_the_time_is_of_the_right_size(specification, tmp_path):
    """Within a factor of four of the build itself: a trial of milliseconds on a machine that does other things."""
    spec = read_spec(specification)
    cost = build_cost(spec, Backend(workers=1))
    build_zoo(spec, tmp_path / "tiny.csv", backend=Backend(workers=1))
    took = json.loads((tmp_path / "tiny.build.json").read_text())
    assert len(read_zoo(tmp_path / "tiny.csv")) == cost.networks
    spent = took["train_seconds"] + took["measure_seconds"]
    assert spent / 4 < cost.train_seconds + cost.measure_seconds < spent * 4


def test_the_command(specification):
    result = CliRunner().invoke(build_command, [str(specification), "--dry-run", "--workers", "2"])
    assert "tiny: 24 networks in 8 cells, 12 of them trained in stacks" in result.output
    values = json.loads(CliRunner().invoke(build_command, [str(specification), "--dry-run", "--json"]).stdout)
    assert (values["family"], values["networks"]) == ("tiny", 24)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (1.4, "1 seconds"),
        (119, "119 seconds"),
        (130, "2.2 minutes"),
        (7000, "117 minutes"),
        (7300, "2 hours"),
        (4e5, "111 hours"),
    ],
)
def test_times_are_said_as_people_say_them(seconds, said):
    assert minutes(seconds) == said
