"""Nothing in the packages loads, imports or runs what a file says, but for the places named here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from unsafe_loading import Finding, harmless_loading, over_packages, unguarded_calls, unsafe_loading

ROOT = Path(__file__).parents[2]

ALLOWED = {
    # behind --trust: the user said that the file is theirs
    Finding("mdtree/reading/exported_program.py", "open_program", "torch.export.load"),
    # inert classes, and nothing else, for the names in a file that torch does not know
    Finding("mdtree/reading/torch_pickle.py", "_only_inert", "torch.serialization.add_safe_globals"),
    # what the user names on the command line is the user's to run
    Finding("mdtree/user_code.py", "_find", "importlib.import_module"),
    # names that stand in a table of the same file
    Finding("landscape/__init__.py", "__getattr__", "importlib.import_module"),
    Finding("mdtree/__init__.py", "__getattr__", "importlib.import_module"),
    Finding("mdtree/cli/app.py", "get_command", "importlib.import_module"),
    Finding("mdtree/data.py", "load_data", "importlib.import_module"),
    Finding("mdtree/data.py", "module", "importlib.import_module"),
    Finding("mdtree/service/work/children.py", "__init__", "importlib.import_module"),
    Finding("mdtree/service/work/children.py", "module", "importlib.import_module"),
    # the C library that this process has already: its prctl confines children, its mallopt bounds pools of memory
    Finding("mdtree/service/server.py", "_share_arenas", "ctypes.CDLL"),
    Finding("mdtree/service/work/process_limits.py", "_prctl", "ctypes.CDLL"),
}


def test_the_packages_load_nothing_unsafely() -> None:
    found = over_packages(unsafe_loading, ROOT, "mdtree", "landscape")
    assert sorted(found - ALLOWED) == []
    assert sorted(ALLOWED - found) == [], "allowed, and no longer there"


def test_a_program_is_loaded_only_where_the_user_trusts_it() -> None:
    """One function calls the loader, and where that function is called, trust was asked for first."""

    def calls_of(function: str) -> set[Finding]:
        return over_packages(lambda source, file: unguarded_calls(source, function, "trust", file), ROOT, "mdtree")

    assert calls_of("open_program") == {Finding("mdtree/checkpoint.py", "open_trusted_program", "open_program")}
    assert calls_of("open_trusted_program") == set()


@pytest.mark.parametrize(
    ("source", "unguarded"),
    [
        ("open_program(p)", True),
        ("if sources.trust:\n    open_program(p)", False),
        ("if not trust:\n    open_program(p)", True),
        ("if not trust:\n    pass\nelse:\n    a.open_program(p)", False),
        ("network = open_program(p) if trust else None", False),
        ("network = None if trust else open_program(p)", True),
        ("if p.suffix == '.pt2':\n    open_program(p)", True),
        ("if trust and p.suffix == '.pt2':\n    if q:\n        open_program(p)", False),
    ],
)
def test_the_search_for_trust_finds(source: str, unguarded: bool) -> None:
    assert bool(unguarded_calls(source, "open_program", "trust")) is unguarded


def test_one_room_calls_torch_load() -> None:
    """With ``weights_only=True``, after the file was looked at."""
    found = over_packages(harmless_loading, ROOT, "mdtree", "landscape")
    assert {one for one in found if one.used == "torch.load"} == {
        Finding("mdtree/reading/torch_pickle.py", "load_pickled", "torch.load")
    }


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("import pickle\npickle.load(f)", "pickle.load"),
        ("import pickle as p\np.loads(b)", "pickle.loads"),
        ("from pickle import loads as read", "pickle.loads"),
        ("from functools import partial\nimport pickle\nread = partial(pickle.loads)", "pickle.loads"),
        ("import pickle\nclass Own(pickle.Unpickler): pass", "pickle.Unpickler"),
        ("from pickle import Unpickler\nclass Own(Unpickler): pass", "pickle.Unpickler"),
        ("import _pickle", "_pickle"),
        ("import dill\ndill.load(f)", "dill.load"),
        ("import cloudpickle", "cloudpickle"),
        ("import shelve\nshelve.open(f)", "shelve.open"),
        ("import marshal\nmarshal.loads(b)", "marshal.loads"),
        ("import joblib\njoblib.load(f)", "joblib.load"),
        ("from joblib import load", "joblib.load"),
        ("import torch\ntorch.load(f)", "torch.load"),
        ("import torch\ntorch.load(f, weights_only=False)", "torch.load"),
        ("import torch\ntorch.load(f, weights_only=trusted)", "torch.load"),
        ("import torch\ntorch.load(f, **{'weights_only': False})", "torch.load"),
        ("import torch\ntorch.load(f, weights_only=True, **options)", "torch.load"),
        ("import torch as t\nt.load(f)", "torch.load"),
        ("from torch import load as read\nread(f)", "torch.load"),
        ("import torch\nread = torch.load", "torch.load"),
        ("import torch\ngetattr(torch, 'load')(f)", "torch.load"),
        ("import torch\ngetattr(torch, name)(f)", "getattr(torch, a computed name)"),
        ("import builtins\ngetattr(builtins, name)(f)", "getattr(builtins, a computed name)"),
        ("import torch.serialization\ntorch.serialization.load(f)", "torch.serialization.load"),
        ("from torch.serialization import add_safe_globals", "torch.serialization.add_safe_globals"),
        ("import torch\nwith torch.serialization.safe_globals(x): pass", "torch.serialization.safe_globals"),
        ("import torch\ntorch.jit.load(f)", "torch.jit.load"),
        ("import torch\ntorch.export.load(f)", "torch.export.load"),
        ("import torch\ntorch.hub.load('a/b', 'c')", "torch.hub.load"),
        ("from torch import hub", "torch.hub"),
        ("import torch.distributed.checkpoint as dcp\ndcp.load(state)", "torch.distributed.checkpoint.load"),
        ("import numpy as np\nnp.load(f)", "numpy.load"),
        ("import numpy as np\nnp.load(f, allow_pickle=True)", "numpy.load"),
        ("import pandas as pd\npd.read_pickle(f)", "pandas.read_pickle"),
        ("frame.io.read_pickle(f)", "builtins.frame.io.read_pickle"),
        ("import yaml\nyaml.load(f, Loader=yaml.Loader)", "yaml.load"),
        ("import yaml\nyaml.unsafe_load(f)", "yaml.unsafe_load"),
        ("eval(text)", "builtins.eval"),
        ("list(map(eval, texts))", "builtins.eval"),
        ("import builtins\nbuiltins.exec(text)", "builtins.exec"),
        ("compile(text, 'x', 'exec')", "builtins.compile"),
        ("__import__(name)", "builtins.__import__"),
        ("import importlib\nimportlib.import_module(name)", "importlib.import_module"),
        ("from importlib import import_module as get\nget(name)", "importlib.import_module"),
        (
            "import importlib.util\nimportlib.util.spec_from_file_location(a, b)",
            "importlib.util.spec_from_file_location",
        ),
        ("spec.loader.exec_module(module)", "builtins.spec.loader.exec_module"),
        ("import runpy\nrunpy.run_path(p)", "runpy.run_path"),
        ("from transformers import AutoModel\nAutoModel.from_pretrained(d)", "transformers.AutoModel.from_pretrained"),
        ("A.from_pretrained(d, local_files_only=offline)", "builtins.A.from_pretrained"),
        ("A.from_config(c, trust_remote_code=True)", "trust_remote_code is not False"),
        ("A.from_config(c, trust_remote_code=asked)", "trust_remote_code is not False"),
        ("import datasets\ndatasets.load_dataset(n)", "datasets.load_dataset"),
        ("from huggingface_hub import snapshot_download", "huggingface_hub.snapshot_download"),
        ("Net.load_from_checkpoint(f)", "builtins.Net.load_from_checkpoint"),
        ("import timm\ntimm.create_model(n, pretrained=True)", "pretrained is not False"),
        ("MNIST(root, download=True)", "download is not False"),
        ("import os\nos.environ['TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'] = '1'", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"),
        ("import os\nos.system(command)", "os.system"),
        ("import ctypes\nctypes.CDLL(f)", "ctypes.CDLL"),
        ("from torch import *", "torch.*"),
    ],
)
def test_the_search_finds(source: str, used: str) -> None:
    assert used in {one.used for one in unsafe_loading(source)}


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(f, map_location='cpu', weights_only=True)",
        "from torch import load\nload(f, weights_only=True)",
        "import numpy as np\nnp.load(f, allow_pickle=False)",
        "import yaml\nyaml.safe_load(f)",
        "import json, tomllib, pickletools, joblib\njson.load(f)\ntomllib.load(f)\njoblib.Parallel()",
        "import safetensors.torch\nsafetensors.torch.load(b)",
        "import re\nre.compile(text)\nmodel.eval()\nmodel.load_state_dict(s)",
        "import importlib\nimportlib.import_module('ray')",
        "A.from_pretrained(d, local_files_only=True)\nA.from_config(c, trust_remote_code=False)",
        "code, pickle = 1, 2\nprint(code, pickle)",
        "import torch\ngetattr(torch, 'float32')\ngetattr(model, name)",
        "timm.create_model(n, pretrained=False)",
    ],
)
def test_the_search_passes(source: str) -> None:
    assert unsafe_loading(source) == set()


def test_a_finding_names_its_function() -> None:
    source = (
        "import torch\nclass A:\n    async def read(self):\n        def inner(f):\n            return torch.load(f)\n"
    )
    assert unsafe_loading(source, "a.py") == {Finding("a.py", "inner", "torch.load")}


def test_joblib_and_the_cluster_back_ends_hand_over_values_and_no_files() -> None:
    """loky, dask and ray pickle what they send to their own workers; a file never comes into it."""
    for room in ("worker_processes", "backends", "dask_cluster", "ray_cluster", "remote_task"):
        spec = importlib.util.find_spec(f"mdtree.{room}")
        assert spec is not None
        assert spec.origin is not None
        source = Path(spec.origin).read_text(encoding="utf-8")
        assert unsafe_loading(source) == set()
        assert "cloudpickle" not in source
