"""``[tool.mdtree]`` in a project's pyproject.toml: which file counts, and what may stand in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mdtree.errors import InputError
from mdtree.project_settings import ProjectSettings, project_settings


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pyproject.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "repository" / ".git").mkdir(parents=True)
    return tmp_path / "repository"


def test_all_keys_are_read_and_paths_start_at_the_file(repository: Path) -> None:
    file = write(
        repository, '[tool.mdtree]\nmodel = "nets:make?width=8"\ndata = "npz:x.npz"\nweights = "ema"\ninit = "a.pt"'
    )
    (repository / "runs" / "today").mkdir(parents=True)
    settings = project_settings(repository / "runs" / "today")
    assert settings == ProjectSettings("nets:make?width=8", "npz:x.npz", "ema", repository / "a.pt", file)
    assert settings.directory == repository


def test_without_the_table_nothing_is_said(repository: Path) -> None:
    assert project_settings(repository) == ProjectSettings()
    write(repository, '[tool.ruff]\nline-length = 120\n[project]\nname = "x"')
    assert project_settings(repository) == ProjectSettings()
    assert project_settings(repository).directory is None
    write(repository, "")
    assert project_settings(repository) == ProjectSettings()


def test_the_nearest_table_counts(repository: Path) -> None:
    write(repository, '[tool.mdtree]\nmodel = "outer:make"')
    write(repository / "inner", '[tool.mdtree]\nmodel = "inner:make"')
    write(repository / "other", '[project]\nname = "other"')
    assert project_settings(repository / "inner").model == "inner:make"
    assert project_settings(repository / "other").model == "outer:make"


def test_nothing_above_the_repository_is_read(repository: Path) -> None:
    write(repository.parent, '[tool.mdtree]\nmodel = "elsewhere:make"')
    assert project_settings(repository).model is None


def test_outside_a_repository_the_home_directory_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path / "home", '[tool.mdtree]\nmodel = "home:make"')
    write(tmp_path / "home" / "project", '[tool.mdtree]\nmodel = "project:make"')
    for folder in ("project/runs", "loose"):
        (tmp_path / "home" / folder).mkdir(parents=True)
    assert project_settings(tmp_path / "home" / "project" / "runs").model == "project:make"
    assert project_settings(tmp_path / "home" / "loose").model is None


def test_outside_repository_and_home_only_the_directory_itself_is_read(tmp_path: Path) -> None:
    write(tmp_path, '[tool.mdtree]\nmodel = "above:make"')
    (tmp_path / "inner").mkdir()
    assert project_settings(tmp_path / "inner").model is None
    assert project_settings(tmp_path).model == "above:make"


def test_a_table_above_that_belongs_to_another_user_is_refused(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(repository, '[tool.mdtree]\nmodel = "evil:make"')
    (repository / "mine").mkdir()
    own = os.stat

    class Status:
        def __init__(self, status: os.stat_result, owner: int) -> None:
            self.st_uid, self.st_mode, self.st_size = owner, status.st_mode, status.st_size

    def stat(path: Path, **named: bool) -> object:
        return Status(own(path, **named), 4242 if path == file else 1000)

    monkeypatch.setattr(Path, "stat", lambda path, **named: stat(path, **named))
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    with pytest.raises(InputError, match="belongs to another user"):
        project_settings(repository / "mine")
    assert project_settings(repository).model == "evil:make"  # who works in it has chosen it


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ('[tool.mdtree]\nmods = "a:b"', r"unknown key mods under .tool.mdtree. in .*pyproject.toml; expected "),
        ("[tool.mdtree]\nmodel = 3", r"model under .tool.mdtree. in .*pyproject.toml is a int; expected text"),
        ('[tool.mdtree]\ndata = ""', r"data under .tool.mdtree. in .* is empty"),
        ('[tool.mdtree]\nmodel = "a:b?c"', r"model = 'a:b\?c' under .tool.mdtree. in .*: 'c' in 'a:b\?c' is not"),
        ('[tool]\nmdtree = "x"', r"tool.mdtree in .* is a str; expected a table"),
        ("[tool.mdtree\n", r"pyproject.toml is no TOML: "),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_file_and_key(repository: Path, table: str, complaint: str) -> None:
    write(repository, table)
    with pytest.raises(InputError, match=complaint):
        project_settings(repository)
