"""`mdtree layers`: the table and the JSON of a checkpoint's spectra, without network or data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from landscape.spectra import LayerSpectrum, layer_spectra
from mdtree.checkpoint import open_checkpoint
from mdtree.checkpoint_saving import save_checkpoint
from mdtree.cli import main
from mdtree.layer_report import layers_text

SAMPLES = Path(__file__).parents[2] / "zoo_samples" / "checkpoints"


@pytest.fixture
def layers(capsys):
    """Run `mdtree layers` and return exit code, standard output and standard error."""

    def call(*words):
        with pytest.raises(SystemExit) as end:
            main(["layers", *map(str, words)])
        out = capsys.readouterr()
        return end.value.code, out.out, out.err

    return call


class Net(nn.Module):
    """Untrained layers of every kind, one of them large enough to be read, in an order that is not the alphabet's."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3)
        self.norm = nn.BatchNorm2d(16)
        self.attention = nn.MultiheadAttention(16, 2)
        self.blocks = nn.Sequential(*[nn.Linear(16, 16) for _ in range(11)])
        self.big = nn.Linear(1200, 600)
        self.dead = nn.Linear(600, 10)
        nn.init.zeros_(self.dead.weight)
        nn.init.normal_(self.big.weight, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net()


def rows(out):
    """Cells of the table by layer; they are two blanks or more apart."""
    lines = out.split("\n\n")[1].splitlines()
    cells = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_the_table_has_a_row_for_each_layer_in_the_networks_order(layers, net, tmp_path):
    file = tmp_path / "net.pt"
    torch.save(net.state_dict(), file)
    code, out, err = layers(file)
    assert (code, err) == (0, "")
    assert out.startswith(f"{file}\n")
    table = rows(out)
    attention = [f"attention.in_proj_weight[{part}]" for part in "qkv"]
    blocks = [f"blocks.{i}" for i in range(11)]
    assert list(table) == ["layer", "stem", *attention, "attention.out_proj", *blocks, "big", "dead"]
    spectra = {spectrum.name: spectrum for spectrum in layer_spectra(net)}
    big = spectra["big"]
    assert table["big"] == [
        "linear",
        "600×1200",
        f"{big.alpha:.2f}",
        f"{big.alpha_standard_error:.2f}",
        f"{big.tail} of 600",
        f"{big.stable_rank:.1f}",
        f"{big.spectral_norm:.3g}",
        "under-trained",
    ]
    assert table["stem"] == [
        "conv",
        "16×1×3×3",
        f"{spectra['stem'].stable_rank:.1f}",
        f"{spectra['stem'].spectral_norm:.3g}",
        "not fitted",
    ]


def test_it_says_why_what_was_left_out_and_ends_with_the_under_trained_layers(layers, net, tmp_path):
    torch.save(net.state_dict(), tmp_path / "net.pt")
    _, out, _ = layers(tmp_path / "net.pt")
    assert "\n  stem: 9 eigenvalues, too few for an exponent (fewer than 10)\n" in out
    assert "\n  dead: all weights are zero\n" in out
    assert "rule of thumb" in out
    # five tensors of the BatchNorm and sixteen biases
    assert "\n21 other tensors are not read: biases" in out
    assert out.splitlines()[-1] == "Look under-trained: big (17 of 18 cannot be read)"


def test_the_last_line_names_every_under_trained_layer():
    def spectrum(i, reading):
        return LayerSpectrum(f"fc{i}", f"fc{i}.weight", "linear", (99, 99), 99, reading=reading)

    under = [spectrum(i, "under-trained") for i in range(7)]
    well = spectrum(7, "well trained")
    assert layers_text([*under, well]).splitlines()[-1] == "Look under-trained: fc0, fc1, fc2, fc3, fc4, fc5, fc6"
    assert layers_text([well]).splitlines()[-1] == "No layer looks under-trained"
    unclear = spectrum(8, "uncertain")
    assert layers_text([well, unclear], 1).splitlines()[-1] == "No layer looks under-trained (1 of 2 cannot be read)"
    assert "1 other tensor is not read" in layers_text([well], 1)


def test_json_holds_the_spectra_as_they_are(layers):
    file = SAMPLES / "healthy-1.pt"
    code, out, _ = layers(file, "--json")
    values = json.loads(out, parse_constant=pytest.fail)  # no NaN, no Infinity
    opened = open_checkpoint(file)
    assert code == 0
    assert values["checkpoint"] == {"path": str(file), "sha256": opened.sha256, "weights_from": "manifest"}
    assert values["not_read"] == ["hidden1.bias", "hidden2.bias", "output.bias"]
    expected = layer_spectra(opened.state)
    assert [{**layer, "shape": tuple(layer["shape"])} for layer in values["layers"]] == [vars(s) for s in expected]


def test_layers_of_safetensors_stand_by_name_since_the_file_has_no_order(layers, net, tmp_path):
    file = save_checkpoint(tmp_path / "net.safetensors", net)
    code, out, _ = layers(file)
    assert code == 0
    assert "a safetensors file holds them in no order" in out.splitlines()[0]
    blocks = [f"blocks.{i}" for i in range(11)]
    attention = [f"attention.in_proj_weight[{part}]" for part in "qkv"]
    assert list(rows(out)) == ["layer", *attention, "attention.out_proj", "big", *blocks, "dead", "stem"]


def test_small_networks_are_not_judged(layers):
    _, out, _ = layers(SAMPLES / "model_too_small-1.pt")
    assert "hidden1, hidden2, output: 4 eigenvalues, too few" in out
    assert out.splitlines()[-1] == "No layer can be read: none is shown to be under-trained, nor well trained"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"norm.weight": torch.ones(3)}, "no weights of a linear, convolutional, attention or embedding layer"),
        ({"a.weight": torch.full((3, 3), torch.nan)}, "NaN or infinite"),
    ],
)
def test_a_checkpoint_without_readable_weights_is_one_line_and_exit_2(layers, tmp_path, content, message):
    torch.save(content, tmp_path / "bad.pt")
    code, out, err = layers(tmp_path / "bad.pt")
    assert (code, out) == (2, "")
    assert message in err
    assert "bad.pt" in err
    assert len(err.splitlines()) == 1


def test_a_file_that_is_not_there_is_exit_2(layers, tmp_path):
    code, _, err = layers(tmp_path / "absent.pt")
    assert code == 2
    assert "absent.pt" in err


def test_the_help_and_the_report_start_no_torch():
    program = (
        "import sys, mdtree.cli.layers, mdtree.layer_report; "
        "sys.exit('torch' in sys.modules or 'landscape.spectra' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
