"""The user's own functions are found, called, and leave the interpreter as it was."""

from __future__ import annotations

import contextlib
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mdtree.errors import InputError
from mdtree.specification import parse
from mdtree.user_code import call_user_function, isolated_random_state


def write(folder: Path, **modules: str) -> Path:
    """Write modules (`__` in a name stands for a folder) and return the folder they lie in."""
    for name, text in modules.items():
        file = folder / (name.replace("__", "/") + ".py")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return folder


def test_a_function_of_the_directory_gets_its_options_as_values(tmp_path: Path) -> None:
    write(tmp_path, echo_options="def echo(**options):\n    return options\n")
    returned = call_user_function(parse("echo_options:echo?width=16&rate=0.5&name=relu&deep=true"), tmp_path)
    assert returned == {"width": 16, "rate": 0.5, "name": "relu", "deep": True}


def test_the_current_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, beside_the_work="def f():\n    return 'found'\n")
    monkeypatch.chdir(tmp_path)
    assert call_user_function(parse("beside_the_work:f")) == "found"


def test_packages_relative_and_sibling_imports_work_and_late_ones_too(tmp_path: Path) -> None:
    write(
        tmp_path,
        zoo_package__nets="from .parts import PART\nimport zoo_sibling\n"
        "class Nets:\n"
        "    @staticmethod\n"
        "    def make():\n"
        "        from zoo_late import LATE\n"
        "        return PART, zoo_sibling.SIBLING, LATE\n",
        zoo_package__parts="PART = 'part'\n",
        zoo_package____init__="",
        zoo_sibling="SIBLING = 'sibling'\n",
        zoo_late="LATE = 'late'\n",
    )
    assert call_user_function(parse("zoo_package.nets:Nets.make"), tmp_path) == ("part", "sibling", "late")


def test_a_folder_without_init_is_a_package_but_hides_nothing_installed(tmp_path: Path) -> None:
    write(tmp_path, plain_folder__f="def f():\n    return 'namespace'\n", sklearn__trap="")
    assert call_user_function(parse("plain_folder.f:f"), tmp_path) == "namespace"
    assert call_user_function(parse("sklearn.datasets:load_digits"), tmp_path)["data"].shape == (1797, 64)


def test_import_paths_are_left_as_they_were(tmp_path: Path) -> None:
    write(tmp_path, leaves_no_trace="import sys\ndef f():\n    return list(sys.path)\n")
    path, finders = list(sys.path), list(sys.meta_path)
    assert call_user_function(parse("leaves_no_trace:f"), tmp_path) == path
    assert (sys.path, sys.meta_path) == (path, finders)
    with pytest.raises(InputError):
        call_user_function(parse("leaves_no_trace:missing"), tmp_path)
    assert (sys.path, sys.meta_path) == (path, finders)


def test_the_same_name_in_another_directory_is_another_module(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        write(folder, same_name=f"def f():\n    return {folder.name!r}\n")
    assert call_user_function(parse("same_name:f"), first) == "first"
    assert call_user_function(parse("same_name:f"), second) == "second"
    assert call_user_function(parse("same_name:f"), first) == "first"


def test_a_name_someone_else_has_loaded_is_refused_not_confused(tmp_path: Path) -> None:
    write(tmp_path, pytest="def f():\n    return 'mine'\n")
    with pytest.raises(InputError, match=r"^a module named pytest is already loaded from .*; rename .*pytest.py$"):
        call_user_function(parse("pytest:f"), tmp_path)


def test_a_local_file_never_replaces_the_standard_library(tmp_path: Path) -> None:
    sys.modules.pop("colorsys", None)  # loaded already, it would not be looked for
    write(tmp_path, colorsys="raise SystemExit('hijacked')\n")
    assert call_user_function(parse("colorsys:rgb_to_hsv?r=0&g=1&b=0"), tmp_path) == (1 / 3, 1, 1)


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("nowhere.to_be:found", "no module named nowhere.to_be in "),
        ("broken_inside:f", "importing broken_inside raised ModuleNotFoundError: No module named 'not_installed_here'"),
        ("bad_syntax:f", "importing bad_syntax raised SyntaxError"),
        ("exits:f", "importing exits raised SystemExit: 3; correct the module"),
        ("good:missing", "good has no missing; expected package.module:function"),
        ("good:NUMBER", "good:NUMBER is a int; expected a function"),
        ("good:raises?x=1", "good:raises?x=1 raised ValueError: two lines, here; correct the function or its options"),
        ("good:raises", "good:raises raised TypeError: raises() missing 1 required positional argument: 'x'"),
        ("good.py:raises", "good.py:raises does not name a function; expected package.module:function"),
    ],
)
def test_errors_of_the_user_are_one_line_that_names_the_function(
    tmp_path: Path, specification: str, message: str
) -> None:
    write(
        tmp_path,
        broken_inside="import not_installed_here\n",
        bad_syntax="def f(:\n",
        exits="raise SystemExit(3)\n",
        good="NUMBER = 3\ndef raises(x):\n    raise ValueError('two lines,\\n  here')\n",
    )
    with pytest.raises(InputError) as caught:
        call_user_function(parse(specification), tmp_path)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_random_state_is_seeded_inside_and_restored_outside() -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    undisturbed = draws(), draws(), draws()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = draws()
    with isolated_random_state(7):
        inside = draws()
    second = draws()
    with contextlib.suppress(KeyError), isolated_random_state(7):
        assert draws() == inside
        raise KeyError
    assert (first, second, draws()) == undisturbed
    with isolated_random_state(8):
        assert draws() != inside


def test_without_a_seed_the_callers_state_is_drawn_from() -> None:
    torch.manual_seed(1)
    expected = torch.rand(())
    torch.manual_seed(1)
    with isolated_random_state(None):
        assert torch.rand(()) == expected
