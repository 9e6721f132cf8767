"""The file of a zoo: what it may say, what it says by default, and how each mistake in it is named."""

import pytest

from mdtree.errors import InputError
from mdtree.grid_spec import Budget, Pretraining
from mdtree.spec_file import read_spec

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


def test_a_single_value_is_an_axis_of_one_and_numbers_are_sorted(write):
    spec = read_spec(write(TEXT))
    assert (spec.family, spec.seeds, spec.architectures) == ("small", 3, ("mlp",))
    assert (spec.train_sizes, spec.batch_sizes, spec.weight_decays) == ((50, 100), (16,), (5e-4,))
    assert spec.budgets == (Budget(steps=20),)
    assert spec.protocol.curve_steps == 10
    assert spec.pretraining is None


def test_what_is_left_out_has_a_default(write):
    short = (
        '[data]\nname="digits"\ntrain=50\n[model]\nname="mlp"\nwidth=4\n[training]\nlearning_rate=0.1\nbatch_size=8\n'
    )
    spec = read_spec(write(f'family = "short"\nseeds = 3\n{short}epochs = 2.5\n'))
    assert (spec.optimizers, spec.schedules, spec.augmentations) == (("sgd",), ("constant",), ("none",))
    assert (spec.label_noises, spec.weight_decays, spec.momentum) == ((0.0,), (0.0,), 0.9)
    assert spec.budgets == (Budget(epochs=2.5),)
    assert (spec.held_out_share, spec.protocol.curve_steps) == (0.25, 800)


def test_every_axis_can_have_several_values(write):
    text = TEXT.replace('name = "mlp"', 'name = ["mlp", "layernorm_mlp"]')
    text = text.replace('schedule = "constant"', 'schedule = ["constant", "cosine"]\noptimizer = ["sgd", "adamw"]')
    spec = read_spec(write(text.replace("weight_decay = 5e-4", "weight_decay = [1e-2, 1e-3]")))
    assert spec.architectures == ("mlp", "layernorm_mlp")
    assert spec.schedules == ("constant", "cosine")
    assert spec.optimizers == ("sgd", "adamw")
    assert spec.weight_decays == (1e-3, 1e-2)


def test_pretraining(write):
    section = '[pretraining]\ndata = "digits?only=0,1"\nlearning_rate = 0.1\nbatch_size = 8\nsteps = 5\n'
    assert read_spec(write(TEXT + section)).pretraining == Pretraining("digits?only=0,1", 0.1, 8, 5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = 3", "", "lacks seeds"),
        ("seeds = 3", "seeds = 2", "seeds = 2; expected at least 3"),
        ("[training]", "[practice]", r"unknown section \[practice\]"),
        ('[model]\nname = "mlp"\nwidth = [4, 8]', "", r"lacks the section \[model\]"),
        ("[protocol]", "[measuring]", r"unknown section \[measuring\]"),
        ("steps = 20", "steps = 20\ncolour = 1", r"\[training\]: unknown key 'colour'; expected keys learning_rate"),
        ("width = [4, 8]", "width = []", r"width = \[\]; expected a list with at least one value"),
        ("width = [4, 8]", "width = [4, 4]", "names a value twice"),
        ("width = [4, 8]", "width = [4.5]", "width holds 4.5; expected whole numbers"),
        ("width = [4, 8]", "width = [0]", "width holds 0; expected whole numbers, above 0"),
        ("learning_rate = [0.01, 0.1]", 'learning_rate = ["fast"]', "holds 'fast'"),
        ("learning_rate = [0.01, 0.1]", "learning_rate = [nan]", "holds nan"),
        ("label_noise = [0.0, 0.1]", "label_noise = -0.1", "holds -0.1; expected numbers, not negative"),
        ('schedule = "constant"', 'schedule = "warm"', "schedule = 'warm'; expected one of constant"),
        (
            'schedule = "constant"',
            'schedule = "constant"\noptimizer = "lion"',
            "optimizer = 'lion'; expected one of sgd",
        ),
        ("steps = 20", "steps = 20\nepochs = 3", "both steps and epochs; expected one of them"),
        ("steps = 20", "", "neither steps nor epochs"),
        ('name = "digits"', 'name = "digits?train=5"', "sets 'train'; expected a name without it"),
        ('name = "mlp"', 'name = "mlp?width=5"', "sets 'width'"),
        ('name = "mlp"', 'name = "mlp?depth"', "'depth' in 'mlp\\?depth' is not an option"),
        ("share = 0.25", "share = 25", "share = 25; expected a share between 0 and 1"),
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
