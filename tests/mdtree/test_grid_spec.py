"""A zoo's specification: read, checked, and unfolded into blocks and cells."""

import pytest

from mdtree.errors import InputError
from mdtree.grid_spec import read_spec

TEXT = """
family = "small"
seeds = 3
[data]
name = "digits"
seed = 0
train = [100, 50]
label_noise = [0.0, 0.1]
[model]
name = "mlp"
width = [4, 8]
[training]
learning_rate = [0.01, 0.1]
batch_size = 16
steps = 20
momentum = 0.9
weight_decay = 5e-4
schedule = "constant"
stacked = true
[held_out]
share = 0.25
seed = 1
[protocol]
curve_steps = 10
"""


@pytest.fixture
def write(tmp_path):
    def make(text):
        file = tmp_path / "zoo.toml"
        file.write_text(text)
        return file

    return make


def test_the_grid_is_unfolded_in_a_fixed_order(write):
    spec = read_spec(write(TEXT))
    assert [b.name for b in spec.blocks()][:4] == ["w4-n50-e0", "w4-n50-e0.1", "w4-n100-e0", "w4-n100-e0.1"]
    first = spec.blocks()[0]
    assert (first.model_spec, first.data_spec) == ("mlp?width=4", "digits?train=50&label_noise=0&seed=0")
    assert first.gain_data_spec.endswith("&test=second_half")
    assert first.cell(0.01) == "w4-n50-e0-r0.01"
    assert spec.networks_per_block == 6
    assert spec.protocol.curve_steps == 10


def test_held_out_cells_are_drawn_from_the_seed_alone(write):
    spec = read_spec(write(TEXT))
    cells = {block.cell(rate) for block in spec.blocks() for rate in spec.learning_rates}
    held = spec.held_out_cells()
    assert held < cells
    assert len(held) == 4
    assert read_spec(write(TEXT)).held_out_cells() == held
    assert read_spec(write(TEXT.replace("seed = 1", "seed = 2"))).held_out_cells() != held


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = 3", "", "lacks seeds"),
        ("[held_out]", "[kept]", r"lacks the section \[held_out\]"),
        ("[protocol]", "[measuring]", r"unknown section \[measuring\]"),
        ("steps = 20", "steps = 20\ncolour = 1", "unknown key 'colour'"),
        ("width = [4, 8]", "width = []", "a list with at least one value"),
        ("width = [4, 8]", "width = [4, 4]", "names a value twice"),
        ("width = [4, 8]", "width = [4.5]", "width holds 4.5; expected whole numbers"),
        ("learning_rate = [0.01, 0.1]", 'learning_rate = ["fast"]', "holds 'fast'"),
        ("stacked = true", 'stacked = "yes"', "expected true or false"),
        ("curve_steps = 10", "curve_stops = 10", "curve_stops"),
        ("seeds = 3", "seeds = = 3", "is not TOML"),
    ],
)
def test_mistakes_are_named(write, old, new, message):
    with pytest.raises(InputError, match=message):
        read_spec(write(TEXT.replace(old, new)))


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_spec(tmp_path / "none.toml")
