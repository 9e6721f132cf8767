"""The checkpoints people have, as frameworks write them: each opens with equal weights and tells its recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from layout import Layout
from layouts import LAYOUTS, row

from mdtree.checkpoint import Checkpoint, open_checkpoint
from mdtree.errors import InputError

PAGE = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")  # of the frameworks, while they save
@pytest.mark.parametrize("layout", LAYOUTS, ids=[layout.name for layout in LAYOUTS])
def test_it_opens_with_equal_weights_or_gives_its_sentence(layout: Layout, tmp_path: Path) -> None:
    built = layout.build(tmp_path)
    if layout.refusal:
        with pytest.raises(InputError) as caught:
            open_checkpoint(built.path, weights=layout.weights)
        assert str(caught.value) == f"{built.path} {layout.refusal}"
        assert row(layout, layout.refusal) in PAGE
        return
    opened = open_checkpoint(built.path, weights=layout.weights)
    assert set(opened.state) == set(built.state)
    for name, tensor in built.state.items():
        assert opened.state[name].dtype == tensor.dtype
        assert torch.equal(opened.state[name], tensor)
    check_what_is_told(layout, opened)
    assert {name: one.value for name, one in opened.recorded.items()} == pytest.approx(dict(built.recorded))
    assert row(layout, opened) in PAGE


def check_what_is_told(layout: Layout, opened: Checkpoint) -> None:
    """Which weights, the recipe with a source for each value, and where the network came from."""
    used = layout.found_in.removesuffix(" (averaged weights)")
    assert opened.weights_from == layout.found_in
    assert set(opened.candidates) - {"file"} == {used, *layout.others} - {"file", "manifest"}
    assert opened.recipe == layout.recipe
    assert set(opened.recipe_sources) == set(layout.recipe)
    told = (opened.framework, opened.network, opened.fine_tuned_from)
    assert told == (layout.framework, layout.network, layout.fine_tuned_from)


def test_there_is_a_layout_for_every_framework() -> None:
    assert len({layout.name for layout in LAYOUTS}) == len(LAYOUTS) >= 100
    told = {layout.framework for layout in LAYOUTS}
    assert told == {
        *("pytorch", "mdtree", "lightning", "transformers", "timm", "accelerate"),
        "torch.distributed.checkpoint",
    }
    assert PAGE.count("\n| ") == len(LAYOUTS) + 1  # and the head of the table
