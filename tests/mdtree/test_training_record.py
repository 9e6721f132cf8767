"""The three lines in a hand-written loop: the norm at the start, the optimizer's settings, and a file that says all."""

import pytest
import torch
from torch import nn

import mdtree
from landscape import Protocol
from mdtree.data import load_data
from mdtree.errors import InputError
from mdtree.models import build_model
from mdtree.training_record import norm_squared, recipe_of

SHORT = Protocol(curve_steps=30, density_probes=1)


def trained(folder):
    """A loop as people write it; the norm at its start by hand, for comparison."""
    data = load_data("digits?train=200")
    torch.manual_seed(3)
    model = build_model("mlp?width=8", num_classes=10, input_shape=(64,))
    start = sum(float((p.detach().double() ** 2).sum()) for p in model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)

    record = mdtree.TrainingRecord(model, optimizer)
    for step in range(60):
        part = slice(20 * (step % 10), 20 * (step % 10) + 20)
        loss = nn.functional.cross_entropy(model(data.x_train[part]), data.y_train[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        accuracy = 100 * float((model(data.x_train).argmax(1) == data.y_train).float().mean())
    path = record.save(
        folder / "run.pt",
        model_spec="mlp?width=8",
        data_spec="digits?train=200",
        recipe={"batch_size": 20, "epochs": 6},
        scores={"train_accuracy_percent": accuracy},
    )
    return path, start, model, accuracy


def test_the_file_opens_and_is_measured_with_the_norm_that_was_kept(tmp_path):
    path, start, model, accuracy = trained(tmp_path)
    opened = mdtree.open_checkpoint(path)
    assert opened.initial_norm_squared == pytest.approx(start, rel=1e-12)
    # the rate that the schedule started from, not the one it ended at
    assert opened.recipe == {
        "optimizer": "sgd", "learning_rate": 0.2, "momentum": 0.9, "weight_decay": 1e-3, "batch_size": 20, "epochs": 6,
    }  # fmt: skip
    assert set(opened.recipe_sources.values()) == {"the file's manifest"}
    assert opened.recorded["train_accuracy_percent"].value == accuracy

    growth = mdtree.measure(path, protocol=SHORT).metrics["log_weight_growth"]
    end = sum(float((p.detach().double() ** 2).sum()) for p in model.parameters())
    assert growth.value == pytest.approx(torch.tensor(end / start).log().item(), rel=1e-5)
    assert growth.standard_error == 0


def test_the_record_is_taken_before_the_first_step_and_changes_nothing():
    model = nn.Linear(3, 2)
    before = norm_squared(model)
    record = mdtree.TrainingRecord(model)
    with torch.no_grad():
        model.weight += 1
    assert record.initial_norm_squared == before != norm_squared(model)
    assert record.recipe == {}
    assert all(p.requires_grad for p in model.parameters())


def test_a_shared_tensor_counts_once_and_integers_do_not():
    model = nn.Module()
    model.first = nn.Parameter(torch.tensor([3.0, 4.0]))
    model.second = model.first
    model.steps = nn.Parameter(torch.tensor([7]), requires_grad=False)
    assert norm_squared(model) == 25


def test_the_group_with_most_numbers_tells_the_recipe():
    model = nn.Linear(9, 4)
    groups = [{"params": [model.bias], "lr": 1.0, "weight_decay": 0.0}, {"params": [model.weight], "lr": 0.01}]
    told = recipe_of(torch.optim.AdamW(groups, betas=(0.8, 0.99), weight_decay=0.3))
    assert told == {"optimizer": "adamw", "learning_rate": 0.01, "momentum": 0.8, "weight_decay": 0.3}


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"train_acc": 90.0}, "unknown score 'train_acc'"),
        ({"train_accuracy_percent": 900.0}, "expected 0 to 100"),
        ({"train_loss": float("nan")}, "train_loss is nan"),
        ({"train_loss": True}, "train_loss is True"),
    ],
)
def test_scores_that_say_nothing_are_refused(tmp_path, scores, message):
    with pytest.raises(InputError, match=message):
        mdtree.TrainingRecord(nn.Linear(2, 2)).save(tmp_path / "x.pt", scores=scores)
    assert not list(tmp_path.iterdir())


def test_a_network_that_was_fine_tuned_grows_from_where_it_started(tmp_path):
    model = nn.Linear(4, 2)
    record = mdtree.TrainingRecord(model, fine_tuned_from="start.pt")
    opened = mdtree.open_checkpoint(record.save(tmp_path / "x.safetensors"))
    assert opened.fine_tuned_from == "start.pt"
    assert opened.initial_norm_squared == pytest.approx(norm_squared(model))
