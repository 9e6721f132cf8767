"""A table of runs: grouped into cells by what varies, refused in one line where it is not one."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdtree.errors import InputError
from mdtree.runs import RunsTable, read_runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abcdef":
        (tmp_path / f"{name}.pt").write_bytes(b"weights")
    return tmp_path


def read(folder: Path, text: str, **specs: str) -> RunsTable:
    file = folder / "runs.csv"
    file.write_text(text)
    return read_runs(file, **specs)


def refusal(folder: Path, text: str, **specs: str) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, text, **specs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_lines_that_differ_in_the_seed_alone_are_one_cell(folder: Path) -> None:
    table = read(folder, "path,seed,learning_rate,width,note\na.pt,7,0.1,8,x\nb.pt,2,0.1,8,y\nc.pt,2,0.5,8,\n")
    assert [cell.name for cell in table.cells] == ["learning_rate=0.1", "learning_rate=0.5"]
    first = table.cells[0]
    assert [(run.seed, run.path.name, run.line) for run in first.runs] == [(2, "b.pt", 3), (7, "a.pt", 2)]
    assert first.runs[0].path == folder / "b.pt"  # relative to the table, wherever it is read from
    assert (first.settings["family"], first.settings["width"]) == ("runs", 8)
    assert table.unused == ("note",)


@pytest.mark.parametrize(
    ("columns", "values", "temperatures", "axis"),
    [
        ("learning_rate,batch_size", ["0.1,20", "0.2,20"], [0.005, 0.01], "learning_rate"),
        ("learning_rate,batch_size", ["0.1,20", "0.1,40"], [0.005, 0.0025], "batch_size"),
        ("learning_rate,batch_size", ["0.1,20", "0.2,80"], [0.005, 0.0025], "learning_rate"),
        ("learning_rate", ["0.1", "0.2"], [0.1, 0.2], "learning_rate"),
        ("batch_size", ["20", "40"], [0.05, 0.025], "batch_size"),
        ("temperature", ["3", "4"], [3, 4], "temperature"),
        ("width", ["3", "4"], [1, 1], "none"),
    ],
)
def test_temperature_is_learning_rate_over_batch_size(
    folder: Path, columns: str, values: list[str], temperatures: list[float], axis: str
) -> None:
    table = read(folder, f"path,seed,{columns}\na.pt,0,{values[0]}\nb.pt,0,{values[1]}\n")
    assert [cell.settings["temperature"] for cell in table.cells] == pytest.approx(temperatures)
    assert {cell.settings["temperature_axis"] for cell in table.cells} == {axis}


def test_the_budget_is_what_was_held_fixed(folder: Path) -> None:
    header = "path,seed,train_size,epochs,steps\n"
    fixed_steps = read(folder, header + "a.pt,0,100,10,50\nb.pt,0,200,5,50\n")
    assert [cell.settings["budget"] for cell in fixed_steps.cells] == ["50 steps", "50 steps"]
    fixed_epochs = read(folder, header + "a.pt,0,100,10,50\nb.pt,0,200,10,100\n")
    assert [cell.settings["budget"] for cell in fixed_epochs.cells] == ["10 epochs", "10 epochs"]


def test_specifications_take_the_values_of_the_line(folder: Path) -> None:
    text = "path,seed,width,fold,model\na.pt,0,4,1,\nb.pt,0,8,1,mlp?width=9\n"
    table = read(folder, text, model="nets:make?width={width}", data="digits?train=160&seed={fold}")
    assert [cell.model for cell in table.cells] == ["nets:make?width=4", "mlp?width=9"]
    assert {cell.data for cell in table.cells} == {"digits?train=160&seed=1"}
    assert {cell.settings["train_size"] for cell in table.cells} == {160}  # what the specification tells


def test_specifications_alone_may_tell_the_axis(folder: Path) -> None:
    table = read(folder, "path,seed,model\na.pt,0,mlp?width=4\nb.pt,0,mlp?width=8\n")
    assert [cell.settings["width"] for cell in table.cells] == [4, 8]
    assert [cell.name for cell in table.cells] == ["model=mlp?width=4", "model=mlp?width=8"]


@pytest.mark.parametrize(
    ("column", "values", "errors"),
    [
        ("test_error_percent", ["0.5", "12"], [0.5, 12]),
        ("test_accuracy", ["0.97", "1"], [3, 0]),
        ("test_accuracy", ["97", "88.5"], [3, 11.5]),
    ],
)
def test_test_errors_in_percent(folder: Path, column: str, values: list[str], errors: list[float]) -> None:
    table = read(folder, f"path,seed,width,{column}\na.pt,0,4,{values[0]}\nb.pt,0,8,{values[1]}\n")
    assert [cell.runs[0].test_error_percent for cell in table.cells] == errors


def test_a_mixture_of_shares_and_percents_is_refused(folder: Path) -> None:
    said = refusal(folder, "path,seed,width,test_accuracy\na.pt,0,4,0.97\nb.pt,0,8,88\n")
    assert "column test_accuracy holds 0.97 and 88; expected shares (0...1) alone or percents alone" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "runs.csv is empty"),
        ("path,seed,width\n", "holds no runs"),
        ("path,width\na.pt,4\n", "lacks the column seed; expected path, seed and at least one axis"),
        ("path,seed,learning_rat\na.pt,0,4\n", "unknown column 'learning_rat'; expected perhaps learning_rate"),
        ("path,seed,width,width\na.pt,0,4,4\n", "holds the column width twice"),
        ("path,seed,width\na.pt,0,4\nb.pt,1,4\n", "no axis varies (temperature is 1, width is 4); expected several"),
        ("path,seed\na.pt,0\nb.pt,1\n", "no axis varies"),
        ("path,seed,width\na.pt,0,4,9\n", "line 2: 4 cells; expected 3"),
        ("path,seed,width\na.pt,0,4\nb.pt,1,\n", "line 3, column width: an empty cell"),
        ("path,seed,width\na.pt,0,wide\n", "line 2, column width: 'wide'; expected a number above 0"),
        ("path,seed,width\na.pt,0,-4\n", "line 2, column width: '-4'; expected a number above 0"),
        ("path,seed,width\na.pt,zero,4\n", "line 2, column seed: 'zero'; expected a whole number"),
        ("path,seed,width\na.pt,0.5,4\n", "line 2, column seed: '0.5'; expected a whole number"),
        ("path,seed,width,label_noise\na.pt,0,4,20\n", "column label_noise: 20; expected a share between 0 and 1"),
        ("path,seed,width\na.pt,0,4\nb.pt,0,4\nc.pt,1,8\n", "lines 2 and 3 are both seed 0 of the cell width=4"),
        ("path,seed,width\na.pt,0,4\n./a.pt,0,8\n", "lines 2 and 3 name the same file"),
        ("path,seed,width\na.pt,0,4\nz.pt,0,8\n", "1 of 2 checkpoints are missing: "),
        ("path,seed,width,test_error_percent,test_accuracy\na.pt,0,4,1,99\n", "test_error_percent and test_accuracy"),
        ("path,seed,width,model\na.pt,0,4,mlp?width\n", "line 2: 'width' in 'mlp?width' is not an option"),
    ],
)
def test_bad_tables_are_refused_in_one_line(folder: Path, text: str, message: str) -> None:
    assert message in refusal(folder, text)


def test_missing_files_are_named_up_to_five_and_counted(folder: Path) -> None:
    lines = "".join(f"gone{n}.pt,{n},4\n" for n in range(7))
    said = refusal(folder, "path,seed,width\na.pt,0,8\n" + lines)
    assert "7 of 8 checkpoints are missing: " in said
    assert "gone4.pt and 2 more; expected paths relative to" in said
    assert "gone5" not in said


def test_an_empty_checkpoint_is_named_with_its_line(folder: Path) -> None:
    (folder / "b.pt").write_bytes(b"")
    assert "line 3: " in (said := refusal(folder, "path,seed,width\na.pt,0,8\nb.pt,0,4\n"))
    assert "b.pt is empty" in said
