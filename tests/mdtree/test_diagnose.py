"""From a file to a diagnosis: checkpoints made on the spot, on data that is not the zoo's."""

import random

import numpy as np
import pytest
import torch

import mdtree
from landscape import METRICS, Protocol
from mdtree.checkpoint import save_checkpoint
from mdtree.data import load_data
from mdtree.diagnose import Sources, measure
from mdtree.errors import InputError
from mdtree.models import build_model
from mdtree.training import Recipe, train_loop
from mdtree.zoo import FAILURES

SHORT = Protocol(curve_steps=30, density_probes=1)


def trained_pair(folder, architecture, data_spec, steps=80):
    """Two trainings of one recipe, saved; their paths."""
    data = load_data(data_spec)
    paths = []
    for seed in (1, 2):
        model = build_model(architecture, num_classes=data.num_classes, input_shape=data.input_shape, seed=seed)
        trained = train_loop(model, data.x_train, data.y_train, Recipe(0.03, 16, steps), seed)
        model.load_state_dict(trained.state)
        paths.append(folder / f"seed{seed}.pt")
        recipe = {"learning_rate": 0.03, "batch_size": 16, "width": 4}
        save_checkpoint(paths[-1], model, model_spec=architecture, data_spec=data_spec, recipe=recipe)
    return paths


def test_a_convolutional_network_on_cifar10(mdtree_data, tmp_path):
    data_spec = f"cifar10:{mdtree_data / 'cifar10'}?train=200&size=8"
    first, second = trained_pair(tmp_path, "cnn?width=4", data_spec)

    found = mdtree.diagnose(first, siblings=[second], protocol=SHORT)

    assert set(found.record.metrics) == set(METRICS)
    assert found.record.evidence == "sibling_test"
    assert found.verdict in {*FAILURES, "undetermined"}
    assert {"foreign_task", "other_protocol"} <= set(found.flags)
    assert found.record.checkpoint["data_set"] == "cifar10"
    test_error = found.record.metrics["test_error_percent"].value
    assert 50 < test_error < 95
    assert all(c.expected_gain_points <= test_error for c in found.ranking)


def test_digits_of_the_idx_files_and_a_safetensors_checkpoint(mdtree_data, tmp_path):
    data_spec = f"idx:{mdtree_data / 'mnist10k'}?train=300"
    first, _ = trained_pair(tmp_path, "mlp?width=8", data_spec, steps=300)
    model = build_model("mlp?width=8", num_classes=10, input_shape=(1, 28, 28))
    model.load_state_dict(mdtree.open_checkpoint(first).state)
    save_checkpoint(tmp_path / "same.safetensors", model, model_spec="mlp?width=8", data_spec=data_spec)

    a, b = (measure(path, protocol=SHORT) for path in (first, tmp_path / "same.safetensors"))

    assert a.evidence == "alone_test"
    assert a.metrics == b.metrics
    assert a.metrics["test_error_percent"].value < 40


def test_measuring_leaves_the_callers_random_state_alone_and_repeats_to_the_bit(tmp_path):
    first, second = trained_pair(tmp_path, "mlp?width=4", "digits?train=60")
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    threads = torch.get_num_threads()

    records = [measure(first, Sources(siblings=(second,)), protocol=SHORT) for _ in range(2)]

    assert records[0].metrics == records[1].metrics
    assert records[0].series == records[1].series
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])
    assert torch.get_num_threads() == threads


def test_a_recorded_initial_norm_replaces_fresh_instances(tmp_path):
    first, _ = trained_pair(tmp_path, "mlp?width=4", "digits?train=60")
    state = mdtree.open_checkpoint(first).state
    norm = sum(float(value.double().square().sum()) for value in state.values())
    model = build_model("mlp?width=4", num_classes=10, input_shape=(64,))
    model.load_state_dict(state)
    save_checkpoint(
        tmp_path / "known.pt", model, model_spec="mlp?width=4", data_spec="digits?train=60", initial_norm_squared=norm
    )
    growth = measure(tmp_path / "known.pt", protocol=SHORT).metrics["log_weight_growth"]
    assert growth.value == pytest.approx(0, abs=1e-6)
    assert growth.standard_error == 0


@pytest.mark.parametrize(
    ("model_spec", "data_spec", "option"),
    [
        ("os:system?command=touch+ran", "digits?train=50", "--model 'os:system"),
        ("mlp?width=4", "os:system?command=touch+ran", "--data 'os:system"),
    ],
)
def test_nothing_that_a_checkpoint_names_is_called_unasked(tmp_path, monkeypatch, model_spec, data_spec, option):
    """The manifest of a downloaded file once could name os.system as its network's factory."""
    monkeypatch.chdir(tmp_path)
    called = []
    monkeypatch.setattr("os.system", lambda command: called.append(command))
    model = build_model("mlp?width=4", num_classes=10, input_shape=(64,))
    save_checkpoint("theirs.pt", model, model_spec=model_spec, data_spec=data_spec)

    with pytest.raises(InputError, match="names the function os:system") as refused:
        measure("theirs.pt", protocol=SHORT)

    assert option in str(refused.value)
    assert "--trust" in str(refused.value)
    assert not called


def test_with_trust_the_checkpoints_own_functions_are_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def net(width):\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(width, 2))\n"
        "def data():\n    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))\n"
        "    return x, (x[:, 0] > 0).long()\n"
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 2))
    save_checkpoint("mine.pt", model, model_spec="mine:net?width=3", data_spec="mine:data")
    assert measure("mine.pt", Sources(trust=True), protocol=SHORT).metrics["parameter_count"].value == 8


def test_what_the_landscape_refuses_names_the_checkpoint(tmp_path):
    (tmp_path / "dense.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a = torch.nn.Conv2d(1, 10, 3, padding=1)\n"
        "    def forward(self, x):\n"
        "        return self.a(x)\n"
    )
    torch.save({"a.weight": torch.randn(10, 1, 3, 3), "a.bias": torch.randn(10)}, tmp_path / "dense.pt")
    sources = Sources(model="dense:Net", data="digits?train=50&shape=image", directory=tmp_path)
    with pytest.raises(InputError, match=r"dense\.pt: .*expected .*classif"):
        measure(tmp_path / "dense.pt", sources)
