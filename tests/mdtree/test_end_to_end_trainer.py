"""A run of the Hugging Face Trainer, a small BERT on real sentences, diagnosed with one command; and the callback."""

import json
import math
import os
import re
import subprocess
import sys
import warnings

import pytest
import torch
from real_text import docstring_sentences, save_word_pieces, write_sentences
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import mdtree
from mdtree.integrations.transformers import DiagnosisCallback
from mdtree.zoo import FAILURES

pytestmark = pytest.mark.slow

LENGTH = 24
DATA = f"text:train.csv?text=text&label=topic&tokenizer=pieces&max_length={LENGTH}&test_file=test.csv"


class Sentences(torch.utils.data.Dataset):
    """Rows as the Trainer takes them."""

    def __init__(self, rows, tokenizer, names):
        options = {"truncation": True, "padding": "max_length", "max_length": LENGTH}
        self.tokens = tokenizer([text for text, _ in rows], return_tensors="pt", **options)
        self.labels = torch.tensor([names.index(topic) for _, topic in rows])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return {**{key: value[index] for key, value in self.tokens.items()}, "labels": self.labels[index]}


def fit(folder, name, seed, parts, callbacks=(), **options):
    """One run, from a config: nothing pre-trained. The folder of its last checkpoint, and the network."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=600, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64, num_labels=4,
    )  # fmt: skip
    model = BertForSequenceClassification(config)
    arguments = TrainingArguments(
        output_dir=str(folder / name), num_train_epochs=12, per_device_train_batch_size=16,
        gradient_accumulation_steps=2, learning_rate=5e-3, weight_decay=0.02, seed=seed, save_strategy="epoch",
        save_total_limit=1, logging_strategy="epoch", eval_strategy="epoch", report_to=[], use_cpu=True,
        disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    for key, value in options.items():
        setattr(arguments, key, value)
    trainer = Trainer(
        model, arguments, train_dataset=parts[0], eval_dataset=parts[1], callbacks=list(callbacks),
        compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())},
    )  # fmt: skip
    trainer.train()
    [last] = (folder / name).glob("checkpoint-*")
    return last, model


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Sentences, a tokenizer trained on them, and two runs."""
    folder = tmp_path_factory.mktemp("sentences")
    rows = docstring_sentences(200)
    train, test = rows[:480], rows[480:]
    for name, part in (("train.csv", train), ("test.csv", test)):
        write_sentences(folder / name, part)
    tokenizer = AutoTokenizer.from_pretrained(save_word_pieces(folder / "pieces", [text for text, _ in train]))
    names = sorted({topic for _, topic in rows})
    parts = [Sentences(part, tokenizer, names) for part in (train, test)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = [fit(folder, f"run{seed}", seed, parts) for seed in (1, 2)]
    return folder, parts, runs


def command(folder, *words):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "mdtree", *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True
    )


def train_error(model, part):
    with torch.no_grad():
        logits = model.eval()(**part.tokens).logits
    return 100 * float((logits.argmax(1) != part.labels).float().mean())


def test_one_command_diagnoses_a_run_and_its_sibling(project):
    folder, parts, [(first, model), (second, _)] = project
    done = command(folder, "diagnose", first, "--sibling", second, "--data", DATA, "--no-cache", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] in {*FAILURES, "undetermined"}
    assert found["evidence"] == "sibling_test"
    assert found["metrics"]["train_error_percent"]["value"] == pytest.approx(train_error(model, parts[0]), abs=1e-3)

    about, recipe = found["checkpoint"], found["recipe"]
    assert (about["framework"], about["model_from"]) == ("transformers", "config.json")
    assert sum(about["class_counts"]) == 480
    assert (recipe["learning_rate"], recipe["weight_decay"]) == (5e-3, 0.02)
    assert recipe["batch_size"] == 32
    assert recipe["epochs"] == 12
    assert "optimizer.pt" in about["recipe_from"]["learning_rate"]
    assert "training_args.bin" in about["recipe_from"]["batch_size"]
    told = {one["metric"]: one["reason"] for one in found["not_measured"]}
    assert "cka_mixup" in told  # words cannot be mixed
    assert "hessian_top_eigenvalue" in found["metrics"]
    assert "connectivity_barrier_percent" in found["metrics"]


def test_another_order_of_the_labels_is_questioned(project):
    """The Trainer writes its loss down: data on which it is far higher, above chance's, are not the run's."""
    folder, _, [(first, _), _] = project
    topics = ["asyncio", "email", "numbers", "testing"]
    others = dict(zip(topics, topics[1:] + topics[:1], strict=True))
    text = (folder / "train.csv").read_text()
    moved = re.sub(r",(\w+)$", lambda row: "," + others.get(row[1], row[1]), text, flags=re.MULTILINE)
    (folder / "other.csv").write_text(moved)
    done = command(folder, "diagnose", first, "--data", DATA.replace("train.csv", "other.csv"), "--no-cache")
    assert done.returncode == 2, done.stdout
    assert "wrong normalisation, label order or split?" in done.stderr
    assert "recorded" in done.stderr


@pytest.fixture(scope="module")
def with_callback(project):
    folder, parts, _ = project
    told = []
    callback = DiagnosisCallback(
        data_spec=DATA, scores={"test_accuracy_percent": "eval_accuracy"}, diagnose=True, report=told.append
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        last, model = fit(folder, "watched", 3, parts, [callback])
    return last, model, callback, told


def initial_norm(seed):
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=600, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=48,
        max_position_embeddings=64, num_labels=4,
    )  # fmt: skip
    return sum(float(p.detach().double().square().sum()) for p in BertForSequenceClassification(config).parameters())


def test_the_callbacks_folders_explain_themselves(project, with_callback):
    folder, parts, _ = project
    last, model, _, _ = with_callback
    opened = mdtree.open_checkpoint(last)
    assert opened.data_spec == DATA
    assert opened.initial_norm_squared == pytest.approx(initial_norm(3), rel=1e-9)
    assert opened.recipe["batch_size"] == 32
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    accuracy = [entry["eval_accuracy"] for entry in history if "eval_accuracy" in entry][-1]
    assert opened.recorded["test_accuracy_percent"].value == pytest.approx(100 * accuracy)
    done = command(folder, "measure", last, "--no-cache", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["metrics"]["train_error_percent"]["value"] == pytest.approx(train_error(model, parts[0]), abs=1e-3)
    assert found["checkpoint"]["data_from"] == "the file's manifest"


def test_the_callback_diagnoses_what_is_in_memory(with_callback):
    _, model, callback, told = with_callback
    [report] = told
    assert "Verdict" in report
    end = sum(float(p.detach().double().square().sum()) for p in model.parameters())
    growth = callback.diagnosis.record.metrics["log_weight_growth"].value
    assert growth == pytest.approx(math.log(end / initial_norm(3)), rel=1e-5)
