"""A folder of images and a network of the user's own, trained by a plain loop and diagnosed with one command."""

import io
import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torch import nn

pytestmark = pytest.mark.slow

CLASSES = {0: "airplane", 1: "automobile", 8: "ship"}
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)

NETS = """
from torch import nn


class Block(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x):
        return nn.functional.max_pool2d(nn.functional.silu(self.norm(self.conv(x))), 2)


class SmallNet(nn.Module):
    def __init__(self, width=8, classes=3):
        super().__init__()
        self.blocks = nn.Sequential(Block(3, width), Block(width, 2 * width), Block(2 * width, 2 * width))
        self.classifier = nn.Linear(2 * width, classes)

    def forward(self, x):
        return self.classifier(self.blocks(x).mean((2, 3)))
"""


def write_images(folder, mdtree_data, part, each):
    """CIFAR-10's images of three classes as PNG files in class folders; the images, as read again, and their labels."""
    table = pyarrow.parquet.read_table(mdtree_data / "cifar10" / f"{part}.parquet").slice(0, 4000)
    images, labels, written = table["image"].to_pylist(), table["label"].to_pylist(), dict.fromkeys(CLASSES, 0)
    found = []
    for image, label in zip(images, labels, strict=True):
        if label in CLASSES and written[label] < each:
            file = folder / part / CLASSES[label] / f"{written[label]:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture = Image.open(io.BytesIO(image["bytes"] if isinstance(image, dict) else image)).convert("RGB")
            picture.resize((40, 36)).save(file)
            written[label] += 1
            found.append((file, list(CLASSES).index(label)))
    return found


def prepared(files, side=32):
    """As a training script does it, by numpy: the shorter side to 32 pixels, the middle, mean and deviation."""
    arrays = []
    for file, _ in files:
        picture = Image.open(file)
        wide, high = picture.size
        scale = side / min(wide, high)
        picture = picture.resize((int(wide * scale), int(high * scale)), Image.Resampling.BILINEAR)
        left, top = round((picture.size[0] - side) / 2), round((picture.size[1] - side) / 2)
        pixels = np.asarray(picture.crop((left, top, left + side, top + side)), np.float32) / 255
        arrays.append(((pixels - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1))
    return torch.tensor(np.stack(arrays)), torch.tensor([label for _, label in files])


@pytest.fixture(scope="module")
def project(tmp_path_factory, mdtree_data):
    """Images, nets.py, and a checkpoint as a plain loop writes it."""
    folder = tmp_path_factory.mktemp("images")
    train = write_images(folder / "pets", mdtree_data, "train", 150)
    write_images(folder / "pets", mdtree_data, "test", 40)
    (folder / "nets.py").write_text(NETS)
    names = {}
    exec(NETS, names)
    x, y = prepared(train)
    torch.manual_seed(0)
    net = names["SmallNet"]()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01, weight_decay=0.05)
    for _ in range(12):
        for part in torch.randperm(len(y)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[part]), y[part]).backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = 100 * float((net.eval()(x).argmax(1) == y).float().mean())
    compiled = {f"module.{name}": value for name, value in net.state_dict().items()}
    saved = {"epoch": 12, "model_state_dict": compiled, "optimizer_state_dict": optimizer.state_dict()}
    torch.save(saved, folder / "best.pth.tar")
    return folder, accuracy


def command(folder, *words):
    return subprocess.run([sys.executable, "-m", "mdtree", *words], cwd=folder, capture_output=True, text=True)


DATA = f"imagefolder:pets?size=32&mean={','.join(map(str, MEAN))}&std={','.join(map(str, STD))}"


def test_one_command_diagnoses_it(project):
    folder, accuracy = project
    done = command(
        folder, "diagnose", "best.pth.tar", "--model", "nets:SmallNet", "--data", DATA, "--no-cache", "--json"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["metrics"]["train_error_percent"]["value"] == pytest.approx(100 - accuracy, abs=1e-4)
    assert found["evidence"] == "alone_test"
    assert found["checkpoint"]["class_counts"] == [150, 150, 150]
    assert found["checkpoint"]["weights_from"] == "model_state_dict"
    assert found["recipe"]["learning_rate"] == 0.01
    assert found["recipe"]["train_size"] == 450


def test_images_prepared_otherwise_are_questioned_before_any_verdict(project):
    folder, _ = project
    done = command(
        folder, "diagnose", "best.pth.tar", "--model", "nets:SmallNet", "--no-cache",
        "--data", "imagefolder:pets?size=32&classes=ship,airplane,automobile&mean=0.49,0.48,0.45&std=0.25,0.24,0.26",
    )  # fmt: skip
    assert done.returncode == 2, done.stdout
    assert done.stdout == ""
    assert "wrong normalisation, label order or split?" in done.stderr
    assert "--data-checked" in done.stderr


def test_the_names_of_weights_that_do_not_fit_are_listed(project):
    folder, _ = project
    done = command(folder, "diagnose", "best.pth.tar", "--model", "nets:SmallNet?width=4", "--data", DATA)
    assert done.returncode == 2
    assert "of another shape (blocks.0.conv.weight 8×3×3×3" in done.stderr
