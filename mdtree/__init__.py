"""Why does a trained network disappoint, and what to change: diagnosis from the loss landscape.

>>> import mdtree
>>> diagnosis = mdtree.diagnose("checkpoint.pt", siblings=["other_seed.pt"])  # doctest: +SKIP
>>> diagnosis.verdict, diagnosis.ranking[0].advice.text  # doctest: +SKIP
('temperature_too_high', 'learning rate 0.3 → 0.075')

Importing the package does not import torch; what needs it imports it when called.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mdtree.checkpoint import open_checkpoint
    from mdtree.checkpoint_saving import save_checkpoint
    from mdtree.diagnose import diagnose, measure
    from mdtree.diagnoser import default_diagnoser, diagnose_record, read_diagnoser, write_diagnoser
    from mdtree.diagnoser_schema import Diagnoser
    from mdtree.diagnosis import Diagnosis
    from mdtree.errors import InputError, MDTreeError, ResourceError
    from mdtree.fitting import fit_diagnoser
    from mdtree.record import Record, read_record
    from mdtree.room import label_zoo
    from mdtree.tree import MDTree
    from mdtree.zoo import read_zoo, write_zoo

__version__ = "0.1.0"

_ROOMS = {
    "diagnose": "mdtree.diagnose",
    "measure": "mdtree.diagnose",
    "open_checkpoint": "mdtree.checkpoint",
    "save_checkpoint": "mdtree.checkpoint_saving",
    "Diagnosis": "mdtree.diagnosis",
    "Diagnoser": "mdtree.diagnoser_schema",
    "default_diagnoser": "mdtree.diagnoser",
    "diagnose_all": "mdtree.diagnose",
    "diagnose_network": "mdtree.diagnose",
    "Sources": "mdtree.prepare",
    "TrainingRecord": "mdtree.training_record",
    "diagnose_record": "mdtree.diagnoser",
    "read_diagnoser": "mdtree.diagnoser",
    "write_diagnoser": "mdtree.diagnoser",
    "fit_diagnoser": "mdtree.fitting",
    "InputError": "mdtree.errors",
    "MDTreeError": "mdtree.errors",
    "ResourceError": "mdtree.errors",
    "Record": "mdtree.record",
    "read_record": "mdtree.record",
    "label_zoo": "mdtree.room",
    "MDTree": "mdtree.tree",
    "read_zoo": "mdtree.zoo",
    "write_zoo": "mdtree.zoo",
}

__all__ = [
    "Diagnoser",
    "Diagnosis",
    "InputError",
    "MDTree",
    "MDTreeError",
    "Record",
    "ResourceError",
    "Sources",
    "TrainingRecord",
    "default_diagnoser",
    "diagnose",
    "diagnose_all",
    "diagnose_network",
    "diagnose_record",
    "fit_diagnoser",
    "label_zoo",
    "measure",
    "open_checkpoint",
    "read_diagnoser",
    "read_record",
    "read_zoo",
    "save_checkpoint",
    "write_diagnoser",
    "write_zoo",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        value = getattr(importlib.import_module(_ROOMS[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'mdtree' has no attribute {name!r}")


class _Package(ModuleType):
    """`mdtree.diagnose` is the function, also after its module of the same name was imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _ROOMS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
