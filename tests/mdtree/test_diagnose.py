"""From a file to a diagnosis: checkpoints made on the spot, on data that is not the zoo's."""

import json
import logging
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import landscape
import mdtree
from landscape import METRICS, Execution, Protocol
from mdtree.checkpoint_saving import save_checkpoint
from mdtree.data import load_data
from mdtree.diagnose import Sources, measure
from mdtree.errors import InputError
from mdtree.measurement_cache import MeasurementCache
from mdtree.models import build_model
from mdtree.training import Recipe, train_loop
from mdtree.zoo import FAILURES

SHORT = Protocol(curve_steps=30, density_probes=1)
SAMPLES = Path(__file__).parents[2] / "zoo_samples" / "checkpoints"


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


@pytest.fixture
def measurements(monkeypatch):
    """How often something was really measured."""
    calls = []
    real = landscape.measure

    def counted(*arguments, **named):
        calls.append(named)
        return real(*arguments, **named)

    monkeypatch.setattr(landscape, "measure", counted)
    return calls


def as_bytes(record):
    return json.dumps(record.to_dict()).encode()


def test_a_measurement_kept_is_the_measurement_to_the_byte_and_says_that_it_was_kept(measurements):
    first = SAMPLES / "healthy-1.pt"
    pair = Sources(siblings=(SAMPLES / "healthy-1.sibling.pt",))

    fresh, kept = (measure(first, pair, protocol=SHORT, cache=True) for _ in range(2))

    assert len(measurements) == 1
    assert "cached" not in fresh.cost
    assert kept.cost == {**fresh.cost, "cached": True}
    assert as_bytes(replace(kept, cost=fresh.cost)) == as_bytes(fresh)
    assert mdtree.diagnose(first, siblings=pair.siblings, protocol=SHORT, cache=True).record == kept


def test_a_program_that_does_not_ask_neither_uses_nor_keeps_measurements(measurements):
    first = SAMPLES / "healthy-1.pt"
    measure(first)
    mdtree.diagnose(first)
    assert not MeasurementCache().folder.exists()
    measure(first, cache=True)
    assert "cached" not in measure(first).cost
    assert len(measurements) == 4


def test_path_recipe_and_hash_are_those_of_the_file_opened_now(measurements, tmp_path):
    """The same weights saved again, in another format, under another recipe: measured once."""
    original = SAMPLES / "temperature_too_high-1.pt"
    opened = mdtree.open_checkpoint(original)
    model = build_model(opened.model_spec, num_classes=10, input_shape=(64,))
    model.load_state_dict(opened.state)
    again = save_checkpoint(
        tmp_path / "again.safetensors",
        model,
        model_spec=opened.model_spec,
        data_spec=opened.data_spec,
        recipe={"learning_rate": 0.77, "batch_size": 5},
        initial_norm_squared=opened.initial_norm_squared,
    )

    fresh, kept = (measure(path, cache=True) for path in (original, again))

    assert len(measurements) == 1
    assert kept.metrics == fresh.metrics
    assert kept.checkpoint["path"] == str(again)
    assert kept.checkpoint["sha256"] == mdtree.open_checkpoint(again).sha256 != fresh.checkpoint["sha256"]
    assert kept.recipe["learning_rate"] == 0.77
    assert "0.77" not in "".join(file.read_text() for file in MeasurementCache().folder.iterdir())


def test_other_weights_in_the_same_place_are_measured_again(measurements, tmp_path):
    """One weight by its last bit: the path is the same, the network is not."""
    file = tmp_path / "model.pt"
    shutil.copy(SAMPLES / "healthy-1.pt", file)
    opened = mdtree.open_checkpoint(file)
    measure(file, cache=True)
    model = build_model(opened.model_spec, num_classes=10, input_shape=(64,))
    model.load_state_dict(opened.state)
    with torch.no_grad():
        model.output.bias[0] = torch.nextafter(model.output.bias[0], torch.tensor(torch.inf))
    save_checkpoint(file, model, model_spec=opened.model_spec, data_spec=opened.data_spec)
    measure(file, Sources(data=opened.data_spec), cache=True)
    assert len(measurements) == 2


def test_an_edited_module_is_measured_again(measurements, tmp_path):
    """Its name and its weights say the same as before; only the code between them does not."""
    code = (
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = torch.nn.Linear(64, 4), torch.nn.Linear(4, 10)\n"
        "    def forward(self, x):\n"
        "        return self.b(torch.relu(self.a(x)))\n"
    )
    state = {"a.weight": torch.randn(4, 64), "a.bias": torch.zeros(4)}
    state |= {"b.weight": torch.randn(10, 4), "b.bias": torch.zeros(10)}
    torch.save(state, tmp_path / "mine.pt")

    def losses(folder, text):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "edited.py").write_text(text)
        sources = Sources(model="edited:Net", data="digits?train=50", directory=tmp_path / folder, data_checked=True)
        return measure(tmp_path / "mine.pt", sources, cache=True).metrics["train_loss"].value

    before, moved, after = losses("one", code), losses("two", code), losses("three", code.replace("relu", "tanh"))
    assert len(measurements) == 2
    assert before == moved != after


def test_a_budget_is_spared_where_the_whole_measurement_is_kept(measurements):
    whole = measure(SAMPLES / "healthy-1.pt", cache=True)
    hurried = measure(SAMPLES / "healthy-1.pt", execution=Execution(budget_seconds=1e-6), cache=True)
    assert len(measurements) == 1
    assert hurried.metrics == whole.metrics


def test_where_nothing_can_be_kept_the_measurement_stands_and_one_line_says_so(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MDTREE_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "mdtree"):
        record = measure(SAMPLES / "healthy-1.pt", cache=True)
    assert record.metrics == measure(SAMPLES / "healthy-1.pt").metrics
    (line,) = caplog.messages
    assert line.startswith("mdtree: the measurement is not kept")
    assert "MDTREE_CACHE" in line


def test_a_network_that_cannot_be_measured_is_refused_with_the_same_words(tmp_path):
    (tmp_path / "broken.py").write_text(
        "import torch\nclass Net(torch.nn.Linear):\n    def __init__(self):\n        super().__init__(64, 7)\n"
    )
    torch.save(torch.nn.Linear(64, 7).state_dict(), tmp_path / "broken.pt")
    sources = Sources(model="broken:Net", data="digits?train=50", directory=tmp_path)
    said = []
    for cache in (False, True):
        with pytest.raises(InputError, match="7 logits") as refused:
            measure(tmp_path / "broken.pt", sources, cache=cache)
        said.append(str(refused.value))
    assert said[0] == said[1]


def test_a_program_of_torch_export_is_measured_where_it_is_trusted(tmp_path):
    first, _ = trained_pair(tmp_path, "mlp?width=4", "digits?train=60")
    opened = mdtree.open_checkpoint(first)
    model = build_model("mlp?width=4", num_classes=10, input_shape=(64,)).eval()
    model.load_state_dict(opened.state)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (torch.zeros(4, 64),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    sources = Sources(data="digits?train=60")
    with pytest.raises(InputError, match="add --trust if the file is yours"):
        measure(tmp_path / "net.pt2", sources, protocol=SHORT)

    record = measure(tmp_path / "net.pt2", replace(sources, trust=True), protocol=SHORT, cache=True)

    expected = measure(first, sources, protocol=SHORT).metrics
    for name in ("train_loss", "hessian_top_eigenvalue", "gradient_norm_squared_per_parameter"):
        assert record.metrics[name].value == pytest.approx(expected[name].value, rel=1e-4)
    assert record.checkpoint["model_from"] == "the program itself"
    [growth] = [one for one in record.not_measured if one.metric == "log_weight_growth"]
    assert "norm at initialisation is unknown" in growth.reason


def test_what_was_opened_and_who_said_so_stands_in_the_record(tmp_path):
    first, second = trained_pair(tmp_path, "mlp?width=4", "digits?train=60")
    record = measure(first, Sources(siblings=(second,), data="digits?train=60&seed=0"), protocol=SHORT)
    about = record.checkpoint
    assert (about["model_from"], about["data_from"]) == ("the file's manifest", "--data")
    assert about["class_counts"] == [6] * 10
    stated = dict.fromkeys(("learning_rate", "batch_size", "width"), "the file's manifest")
    assert about["recipe_from"] == {**stated, "train_size": "the data"}
    assert (about["framework"], about["layout"], about["weights_there"]) == ("mdtree", "torch.save", ["file"])


def test_a_sibling_of_another_recipe_is_said_to_be_one(tmp_path):
    """Its pair metrics once turned a verdict without a word."""
    first, second = trained_pair(tmp_path, "mlp?width=4", "digits?train=60")
    model = build_model("mlp?width=4", num_classes=10, input_shape=(64,))
    model.load_state_dict(mdtree.open_checkpoint(second).state)
    other = {"learning_rate": 0.3, "batch_size": 16, "width": 4}
    save_checkpoint(tmp_path / "other.pt", model, model_spec="mlp?width=4", data_spec="digits?train=60", recipe=other)
    record = measure(first, Sources(siblings=(tmp_path / "other.pt",)), protocol=SHORT)
    assert "sibling_of_another_recipe" in record.flags
    [note] = [one for one in record.checkpoint["notes"] if "another recipe" in one]
    assert note == f"{tmp_path / 'other.pt'} was trained by another recipe: learning rate 0.3 against 0.03"
    assert "sibling_of_another_recipe" not in measure(first, Sources(siblings=(second,)), protocol=SHORT).flags


def test_a_network_in_place_of_its_name_is_refused_with_the_function_for_it(tmp_path):
    first, _ = trained_pair(tmp_path, "mlp?width=4", "digits?train=60")
    with pytest.raises(InputError, match=r"model is a Linear; .* use mdtree.diagnose_network"):
        mdtree.diagnose(first, model=torch.nn.Linear(2, 2))


def test_growth_of_a_fine_tuned_network_is_against_what_it_started_from(tmp_path):
    first, second = trained_pair(tmp_path, "mlp?width=4", "digits?train=60")
    state = mdtree.open_checkpoint(first).state
    model = build_model("mlp?width=4", num_classes=10, input_shape=(64,))
    model.load_state_dict(state)
    tuned = tmp_path / "tuned.pt"
    save_checkpoint(tuned, model, model_spec="mlp?width=4", data_spec="digits?train=60", fine_tuned_from="elsewhere")
    unknown = measure(tuned, protocol=SHORT)
    [growth] = [one for one in unknown.not_measured if one.metric == "log_weight_growth"]
    assert "fine-tuned from elsewhere: give what training started from with --init FILE" in growth.reason

    record = measure(tuned, Sources(init=second, siblings=(second,)), protocol=SHORT)
    start = sum(float(value.double().square().sum()) for value in mdtree.open_checkpoint(second).state.values())
    end = sum(float(value.double().square().sum()) for value in state.values())
    assert record.metrics["log_weight_growth"].value == pytest.approx(np.log(end / start), rel=1e-5)
    assert "siblings_share_start" in record.flags
