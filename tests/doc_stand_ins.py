"""What the pages take for granted: a reader's own module, data and checkpoints, small and really trained."""

from __future__ import annotations

import atexit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from doc_pages import ROOT, blocks, pages
from torch import nn

import mdtree

NETS = '''
import sklearn.datasets
import torch
from torch import nn

x, y = (torch.tensor(array) for array in sklearn.datasets.load_digits(return_X_y=True))
x = x.float() / 16


def make_net(width=16):
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def load():
    return x[:600], y[:600], x[600:], y[600:]


def load_unscaled():
    return 16 * 255 * x[:600], y[:600]


def picture_net():
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(196, 3))


def table_net():
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))


class TokenData(torch.utils.data.Dataset):
    """Sixty texts of eight tokens; the label is whether the first is among the upper half."""

    def __init__(self):
        self.tokens = torch.randint(1, 40, (60, 8), generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, number):
        tokens = self.tokens[number]
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": int(tokens[0] > 20)}
'''


def trained(
    model: nn.Module, x: Any, y: torch.Tensor, *, rate: float = 0.1, steps: int = 400, seed: int = 0
) -> nn.Module:
    """The model, after so many steps of SGD on batches of 16."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), rate)
    for _ in range(steps):
        batch = torch.randint(len(x), (16,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    return model


def _digits(folder: Path) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A module `nets` in the folder, which is importable there, and its training data."""
    (folder / "nets.py").write_text(NETS)
    import nets

    x, y, _, _ = nets.load()
    return nets, x, y


def own_checkpoint(folder: Path) -> dict[str, Any]:
    nets, x, y = _digits(folder)
    torch.manual_seed(0)
    model = nets.make_net()
    torch.save(model.state_dict(), folder / "start.pt")
    trained(model, x, y)
    torch.save(model.state_dict(), folder / "weights.pt")
    torch.save({"model": model.state_dict(), "model_ema": model.state_dict()}, folder / "both.pt")
    return {"model": model}


def trainers(folder: Path) -> dict[str, Any]:
    _digits(folder)
    torch.manual_seed(0)
    return {}


def several_checkpoints(folder: Path) -> dict[str, Any]:
    nets, x, y = _digits(folder)
    for number, rate in enumerate((0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 0.6, 1.0)):
        torch.manual_seed(number)
        model = trained(nets.make_net(), x, y, rate=rate, steps=200)
        recipe = {"learning_rate": rate, "batch_size": 16, "steps": 200}
        mdtree.save_checkpoint(folder / f"sweep-{number}.pt", model, recipe=recipe)
    return {}


def images_and_text(folder: Path) -> dict[str, Any]:
    nets, _, _ = _digits(folder)
    x, y = _pictures(folder)
    torch.manual_seed(0)
    torch.save(trained(nets.picture_net(), x, y, rate=0.02, steps=200).state_dict(), folder / "pictures.pt")
    _table(folder, nets)
    _reviews(folder)
    return {}


def _pictures(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy patches of three colours in class folders and in a parquet file; as the page's options prepare them."""
    import io

    import pandas as pd
    from PIL import Image

    generator = np.random.default_rng(0)
    rows, inputs, labels = [], [], []
    for label, (name, colour) in enumerate(
        (("grass", (60, 140, 60)), ("sand", (190, 170, 110)), ("sky", (90, 140, 210)))
    ):
        for part, count in (("train", 30), ("val", 10)):
            place = folder / "pictures" / part / name
            place.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(np.array(colour) + generator.normal(0, 25, (16, 16, 3)), 0, 255).astype(np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "PNG")
                (place / f"{number}.png").write_bytes(buffer.getvalue())
                if part == "train":
                    rows.append({"image": {"bytes": buffer.getvalue(), "path": None}, "label": label})
                    inputs.append((pixels.transpose(2, 0, 1) / 255 - 0.5) / 0.25)
                    labels.append(label)
    pd.DataFrame(rows).to_parquet(folder / "pictures.parquet")
    return torch.tensor(np.stack(inputs), dtype=torch.float32), torch.tensor(labels)


def _table(folder: Path, nets: Any) -> None:
    import pandas as pd

    x = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    np.savez(folder / "table.npz", x_train=x[:150], y_train=y[:150], x_test=x[150:], y_test=y[150:])
    pd.DataFrame(x, columns=list("abcde")).assign(y=y).to_parquet(folder / "table.parquet")
    model = trained(nets.table_net(), torch.tensor(x[:150]), torch.tensor(y[:150]))
    torch.save(model.state_dict(), folder / "table.pt")


def _reviews(folder: Path) -> None:
    """A folder as the Trainer leaves it, of a transformer that tells two topics by their words."""
    import pandas as pd
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    words = {0: ["cheap", "broken", "late", "noisy"], 1: ["bright", "quick", "sturdy", "quiet"]}
    generator = np.random.default_rng(0)
    rows = [(" ".join(generator.choice(words[topic], 6)), topic) for topic in generator.integers(0, 2, 80)]
    pd.DataFrame(rows, columns=["text", "topic"]).to_csv(folder / "reviews.csv", index=False)
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *words[0], *words[1]])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder / "reviews"
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        num_labels=2,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    tokens = torch.tensor([[vocabulary[word] for word in text.split()] for text, _ in rows])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(tokens).logits, torch.tensor([topic for _, topic in rows])).backward()
        optimizer.step()
    model.save_pretrained(folder / "reviews")


def reports(folder: Path) -> dict[str, Any]:
    nets, x, y = _digits(folder)
    torch.manual_seed(0)
    return {"model": trained(nets.make_net(), x, y), "x": x, "y": y}


def safety(folder: Path) -> dict[str, Any]:
    nets, _, _ = _digits(folder)
    mdtree.save_checkpoint(folder / "named.pt", nets.make_net(), model_spec="nets:make_net", data_spec="nets:load")
    return {}


def service(folder: Path) -> dict[str, Any]:
    """Weights of a built-in network and of a reader's own, data, and a service that knows what the page registers."""
    from mdtree.networks.architectures import mlp

    nets, x, y = _digits(folder)
    torch.manual_seed(0)
    torch.save(trained(mlp(16, 2, 64, 10, normalise=False), x, y).state_dict(), folder / "weights.pt")
    torch.save(trained(nets.make_net(), x, y).state_dict(), folder / "own.pt")
    np.savez(folder / "sample.npz", x_train=x, y_train=y)
    configuration = next(block.text for block in blocks(pages()["service.md"]) if block.file == "service.toml")
    return {"SERVICE": started_service(folder, configuration)}


def started_service(folder: Path, configuration: str = "") -> str:
    """The address of a service that ends with this process."""
    import service_process

    process = service_process.ServiceProcess(folder, configuration=configuration, data_dir=folder / "service")
    process.start()
    atexit.register(process.stop)
    return str(process.address)


def readme(folder: Path) -> dict[str, Any]:
    """A module `nets`, two runs of it as a plain loop saves them, and the names that the fragments take up."""
    import lightning

    import landscape

    (folder / "nets.py").write_text(NETS + "\n\nmake = make_net\n")
    import nets

    x, y, _, _ = nets.load()
    for name, seed in (("run8", 1), ("run7", 0)):  # the page goes on with run7
        torch.manual_seed(seed)
        model = trained(nets.make(), x, y, seed=seed)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / f"{name}.ckpt")
        mdtree.save_checkpoint(folder / f"{name}.pt", model, model_spec="nets:make?width=16", data_spec="nets:load")
    registered = '[networks]\nour_net = "nets:make"\n[data_sets]\nour_data = "nets:load"'
    named = {"mdtree": mdtree, "landscape": landscape, "lightning": lightning}
    named["SERVICE"] = started_service(folder, registered)
    return {"model": model, "optimizer": optimizer, "x": x, "y": y, **named}


STAND_INS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "README.md": readme,
    "images_and_text.md": images_and_text,
    "own_checkpoint.md": own_checkpoint,
    "reports.md": reports,
    "safety.md": safety,
    "service.md": service,
    "several_checkpoints.md": several_checkpoints,
    "trainers.md": trainers,
}


def prepare(page: str, folder: Path) -> dict[str, Any]:
    """Put into the folder what a page needs, and give the names that its Python blocks find there."""
    (folder / "zoo_samples").symlink_to(ROOT / "zoo_samples")
    return STAND_INS[page](folder) if page in STAND_INS else {}
