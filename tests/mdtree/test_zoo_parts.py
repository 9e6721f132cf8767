"""What is left out of several zoos: whole groups, and all that is larger than what was fitted on."""

import numpy as np
import pandas as pd
import pytest
from synthetic_zoo import RATES, SEEDS, SIZES, WIDTHS
from transfer_zoos import family, together

from mdtree.errors import InputError
from mdtree.zoo import write_zoo
from mdtree.zoo_parts import DRAWN_CELLS, parts_of, read_zoos


@pytest.fixture(scope="module")
def three():
    return together(
        family("a", data_set="digits?size=8", architecture="mlp"),
        family("b", data_set="digits?size=16", architecture="cnn?norm=group"),
        family("c", data_set="cifar10", architecture="cnn?norm=none"),
    )


def test_a_data_set_leaves_with_all_its_families_whatever_its_options(three):
    parts, missing = parts_of(three, "data_set")
    assert [part.name for part in parts] == ["digits", "cifar10"]
    assert missing == ()
    assert set(three["family"][parts[0].asked]) == {"a", "b"}
    assert set(three["family"][parts[0].fitted]) == {"c"}


def test_an_architecture_is_compared_by_its_name(three):
    parts, _ = parts_of(three, "architecture")
    assert {part.name: set(three["family"][part.asked]) for part in parts} == {"mlp": {"a"}, "cnn": {"b", "c"}}


def test_every_row_is_asked_about_once_and_never_where_it_is_fitted(three):
    for leave_out in ("data_set", "family", "architecture"):
        parts, _ = parts_of(three, leave_out)
        assert np.array_equal(sum(part.asked.astype(int) for part in parts), np.ones(len(three)))
        assert all(np.array_equal(part.fitted, ~part.asked) for part in parts)


def test_scale_fits_on_the_small_end_of_one_family_and_asks_about_the_rest_of_it(three):
    parts, missing = parts_of(three, "scale")
    assert missing == ()
    assert len(parts) == 9
    width, data, cells = (part for part in parts if part.name.startswith("b: "))
    assert (width.name, data.name, cells.name) == ("b: width > 8", "b: data > 50", "b: cells > 50")
    assert set(three["width"][width.fitted]) == set(WIDTHS[:2])
    assert set(three["width"][width.asked]) == set(WIDTHS[2:])
    assert set(three["train_size"][data.fitted]) == {SIZES[0]}
    assert set(three["train_size"][data.asked]) == set(SIZES[1:])
    assert three["cell"][cells.fitted].nunique() == DRAWN_CELLS
    assert not set(three["cell"][cells.fitted]) & set(three["cell"][cells.asked])
    for part in (width, data, cells):
        assert set(three["family"][part.fitted | part.asked]) == {"b"}
        assert (part.fitted | part.asked).sum() == len(WIDTHS) * len(SIZES) * len(RATES) * SEEDS


def test_the_drawn_cells_depend_on_the_seed_and_not_on_the_order_of_the_rows(three):
    def drawn(frame: pd.DataFrame, seed: int) -> set[str]:
        part = next(p for p in parts_of(frame, "scale", seed)[0] if p.name == "a: cells > 50")
        return set(frame["cell"][part.fitted])

    assert drawn(three, 0) == drawn(three.iloc[::-1].reset_index(drop=True), 0)
    assert drawn(three, 0) != drawn(three, 1)


def test_a_family_without_scales_is_said(three):
    small = three[(three["family"] == "a") & (three["width"] <= 8) & (three["train_size"] == 50)]
    frame = together(small, three[three["family"] == "b"])
    parts, missing = parts_of(frame, "scale")
    assert [part.name for part in parts] == ["b: width > 8", "b: data > 50", "b: cells > 50"]
    assert [(m.name, m.reason) for m in missing] == [
        ("a: width", "its networks are all of width 4, 8"),
        ("a: data", "its networks are all of train size 50"),
        ("a: cells > 50", "it has only 8"),
    ]
    with pytest.raises(InputError, match="a: width: its networks are all of width 4, 8"):
        parts_of(small.reset_index(drop=True), "scale")


def test_nothing_to_fit_on_is_refused(three):
    with pytest.raises(InputError, match="one family, a: nothing to fit on without it; expected two or more"):
        parts_of(three[three["family"] == "a"], "family")
    with pytest.raises(InputError, match="rows of family c name no architecture"):
        parts_of(three.assign(architecture=three["architecture"].where(three["family"] != "c")), "architecture")
    with pytest.raises(InputError, match="leave out 'seed'"):
        parts_of(three, "seed")


def write(path, frame):
    write_zoo(frame, path)
    return path


def test_tables_are_read_one_after_the_other(tmp_path):
    paths = [write(tmp_path / f"{name}.csv", family(name)) for name in "ba"]
    frame = read_zoos(paths)
    assert list(dict.fromkeys(frame["family"])) == ["b", "a"]
    assert frame.index.is_unique
    assert frame["width"].dtype == float


def test_networks_of_two_protocols_are_refused(tmp_path):
    paths = [write(tmp_path / f"{name}.csv", family(name).assign(protocol=name)) for name in "ab"]
    with pytest.raises(InputError, match=r"b.csv is measured by protocol b, .*a.csv by a; expected .* one protocol"):
        read_zoos(paths)


def test_a_table_of_means_may_have_a_protocol_of_its_own(tmp_path):
    means = family("means").drop_duplicates("cell").assign(seed=np.nan, sibling_seed=np.nan, protocol="published")
    frame = read_zoos([write(tmp_path / "a.csv", family("a")), write(tmp_path / "m.csv", means)])
    assert set(frame["protocol"]) == {"formula", "published"}


def test_a_cell_in_two_tables_is_refused(tmp_path):
    paths = [write(tmp_path / "one.csv", family("a")), write(tmp_path / "two.csv", family("a", seed=3))]
    with pytest.raises(InputError, match=r"cell w4-n50-r0.001 of family a stands in .*one.csv and in .*two.csv"):
        read_zoos(paths)
    with pytest.raises(InputError, match="named twice"):
        read_zoos([paths[0], paths[0]])
    with pytest.raises(InputError, match="no zoo tables"):
        read_zoos([])
