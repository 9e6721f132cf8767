"""The user's own functions, ``package.module:function?key=value``: found beside the work, called, their errors named.

A module is looked for in one directory first, the one `mdtree` is run in unless said otherwise, then among what is
installed. ``sys.path`` is not touched: while a function of the user is imported or runs, one more finder stands in
``sys.meta_path``, which knows that directory, and is taken out again afterwards. Modules once imported stay in
``sys.modules``, as after any import.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import operator
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from mdtree.errors import InputError
from mdtree.specification import Specification


def call_user_function(spec: Specification, directory: Path | None = None, seed: int | None = None) -> object:
    """Call ``module:function`` with the options of the specification as keyword arguments.

    Parameters
    ----------
    spec : Specification
        ``name`` is the module, ``target`` the callable in it (dots reach inside), ``options`` its keyword arguments,
        read as int, float, bool or text by their look.
    directory : Path, optional
        Where the user's modules lie; the current directory by default.
    seed : int, optional
        If given, the function sees the generators of `random`, numpy and torch (CPU) seeded with it, and the caller's
        are put back as they were. If not, it draws from the caller's.

    Returns
    -------
    object
        What the function returned.

    Raises
    ------
    InputError
        If the module or the callable is not found, or anything in it raises: one line with the function and the error.
    """
    with _modules_of(directory or Path.cwd()), isolated_random_state(seed):
        function = _find(spec, directory or Path.cwd())
        try:
            return function(**spec.values())
        except (Exception, SystemExit) as error:
            raise InputError(f"{spec} raised {_one_line(error)}", "", "correct the function or its options") from error


@contextmanager
def isolated_random_state(seed: int | None) -> Iterator[None]:
    """Seed the generators of `random`, numpy and torch (CPU) inside, and restore them; nothing if `seed` is None."""
    if seed is None:
        yield
        return
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            # not torch.manual_seed, which would reach the generators of accelerators as well
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


class _DirectoryFinder(importlib.abc.MetaPathFinder):
    """Finds top-level modules in one directory; the standard library keeps its names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if path is not None or fullname in sys.stdlib_module_names:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, [str(self.directory)])
        # a folder without __init__.py shadows nothing that is installed: `data/` holds data more often than code
        if found is None or (found.origin is None and importlib.machinery.PathFinder.find_spec(fullname) is not None):
            return None
        return found


_directory_of_loaded: dict[str, Path] = {}


@contextmanager
def _modules_of(directory: Path) -> Iterator[None]:
    """Let imports find the modules of `directory` while the context lasts."""
    resolved = directory.resolve()
    for name, loaded_from in list(_directory_of_loaded.items()):
        if loaded_from != resolved:  # a module of that name from an earlier directory would hide this one's
            for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
                del sys.modules[module]
            del _directory_of_loaded[name]
    finder = _DirectoryFinder(resolved)
    before = set(sys.modules)
    importlib.invalidate_caches()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            if "." not in name and _lies_in(sys.modules[name], resolved):
                _directory_of_loaded[name] = resolved


def _lies_in(module: ModuleType, directory: Path) -> bool:
    file = getattr(module, "__file__", None)
    places = [Path(place).resolve() for place in ([file] if file else getattr(module, "__path__", []))]
    # a module is a file in the directory, a package a folder in it, with or without an __init__.py
    return any(directory in (place.parent, place.parent.parent) for place in places)


def _find(spec: Specification, directory: Path) -> Callable[..., object]:
    if spec.name.endswith(".py") or "/" in spec.name or not spec.target:
        raise InputError(
            f"{spec} does not name a function", "package.module:function", f"run in the folder of {spec.name}"
        )
    top = spec.name.partition(".")[0]
    loaded = sys.modules.get(top)
    local = importlib.machinery.PathFinder.find_spec(top, [str(directory.resolve())])
    if loaded is not None and local is not None and local.origin and top not in sys.stdlib_module_names:
        loaded_from = getattr(loaded, "__file__", None)
        if loaded_from is None or Path(loaded_from).resolve() != Path(local.origin).resolve():
            raise InputError(
                f"a module named {top} is already loaded from {loaded_from or 'elsewhere'}",
                "",
                f"rename {local.origin}",
            )
    try:
        module = importlib.import_module(spec.name)
    except ModuleNotFoundError as error:
        if error.name and (spec.name == error.name or spec.name.startswith(f"{error.name}.")):
            raise InputError(
                f"no module named {spec.name} in {directory} or among the installed packages",
                "package.module:function",
                "run in the folder that holds it",
            ) from error
        raise InputError(f"importing {spec.name} raised {_one_line(error)}", "", "correct the module") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"importing {spec.name} raised {_one_line(error)}", "", "correct the module") from error
    try:
        function = operator.attrgetter(spec.target)(module)
    except AttributeError as error:
        raise InputError(f"{spec.name} has no {spec.target}", "package.module:function") from error
    if not callable(function):
        raise InputError(f"{spec.name}:{spec.target} is a {type(function).__name__}", "a function")
    return function


def _one_line(error: BaseException) -> str:
    """``ValueError: text``, all on one line and not endless."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
