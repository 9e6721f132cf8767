"""Write the page of the reference zoos: what each family holds, with a picture.

python docs/zoos.py [SAMPLES] [PAGE]    reads zoo_samples/*.csv, writes docs/zoos.md, docs/zoos/*.png   (`make figures`)

A line of a family's specification that starts with `# Cut:` says what was left out of the grid and is quoted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from mdtree.errors import InputError
from mdtree.files import write_atomically
from mdtree.temperature_profile import profile_rows, temperature_profile
from mdtree.zoo import read_zoo
from mdtree.zoo_plots import HeatMap, draw_heat_map, heat_map_data
from mdtree.zoo_summary import LEAST_CAUSE_SHARE, FamilySummary, summarise_tables
from mdtree.zoo_summary_text import (
    AXIS_WORDS,
    agreement_rows,
    axis_text,
    build_rows,
    causes_text,
    cells_text,
    fixed_text,
    halves_text,
    label_rows,
    optimum_text,
    overview_rows,
    percent,
    trend_text,
    varied_axes,
)

HERE = Path(__file__).parent
CUT = "# Cut:"

INTRODUCTION = f"""\
# The reference zoos

Grids of small networks, each trained from several seeds, measured and labelled with what would have helped it most.
Made by `mdtree zoo build SPECIFICATION -o TABLE`; specifications and tables stand in `zoo_samples/`. This page is
written by `python docs/zoos.py`; `mdtree zoo summary TABLE` prints the same figures.

A *cell* is one configuration with all its seeds; its label is what more than half of its networks carry. *Ambiguous*:
too close to call. *Censored*: decided beyond the edge of the grid. *Too low, too high* speak of the temperature, *too
small* of the model, *too little* of the data. *Per second* and *per worker*: networks trained and measured in a second
by the clock, and in a second of one worker's time; the machine had other work at the time, so a build of yours may well
be faster. *Rarest*: of the four causes the one of fewest cells, with its share
among the cells that have a cause; below {percent(LEAST_CAUSE_SHARE)} a tree hardly learns to say it. *Agree*: the
verdicts from two disjoint halves of the seeds, where both name one. *Best inside*: rows (one width, one amount of data,
one setting of all else) whose best temperature is not at an end of the axis.
"""

PICTURE = """\
Pictures: test error in percent, mean over seeds, on the half of the test set that labels are made of. Columns run from
cold to hot, all cells are of one size whatever the step of the axis, the scale of colours is shared by the panels of a
picture. A frame marks the lowest error of a row; a hatched cell has a seed whose training diverged.

The table under each picture goes along the temperature axis, means over all widths and amounts of data. Hot training
that breaks (instability) ends near a constant answer; hot training that hovers (noise floor) keeps a high training
error while siblings stay connected, and the cold side interpolates and is sharp.
"""


def main(samples: Path, page: Path) -> None:
    """Write the page and its pictures, a picture per family in a folder beside the page, named like it."""
    tables = sorted(samples.glob("*.csv"))
    if not tables:
        raise InputError(f"{samples} holds no table", "zoo tables (*.csv)")
    summaries = summarise_tables(tables)
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    sections = []
    for summary in summaries:
        rows = read_zoo(summary.table)
        data = heat_map_data(rows[rows["family"] == summary.family])
        figure = draw_heat_map(data)
        picture = folder / f"{summary.family}.png"
        # without the date and the versions that matplotlib would write, equal pictures are equal files
        figure.savefig(picture, dpi=100, metadata={"Software": None})
        plt.close(figure)
        profile = profile_rows(temperature_profile(rows[rows["family"] == summary.family]))
        sections.append("\n".join(section(summary, data, profile, f"{folder.name}/{picture.name}")))
    text = "\n".join([INTRODUCTION, markdown(overview(summaries)), "", PICTURE, "\n".join(sections)])
    write_atomically(page, text.encode())


def overview(summaries: Sequence[FamilySummary]) -> list[tuple[str, ...]]:
    """A heading and one row per family: what the command prints, and how sure and how wide the zoo is."""
    rows = overview_rows(summaries)
    more: list[tuple[str, ...]] = [("agree", "best inside")]
    for summary in summaries:
        verdict = summary.agreement.questions[-1].agree if summary.agreement else None
        found = summary.optimum
        more.append(
            (
                "-" if verdict is None else percent(verdict),
                f"{found.inside} of {found.rows}" if found.rows else "-",
            )
        )
    return [(*row, *extra) for row, extra in zip(rows, more, strict=True)]


def section(summary: FamilySummary, data: HeatMap, profile: Sequence[Sequence[str]], picture: str) -> Iterator[str]:
    """The lines of one family."""
    yield f"## {summary.family}\n"
    settings = summary.settings
    made_of = [", ".join(settings[name]) for name in ("architecture", "data_set") if name in settings]
    yield f"{' on '.join(made_of)}: cells {cells_text(summary)}.\n"
    for name, values in varied_axes(summary).items():
        yield f"- {AXIS_WORDS[name]}: {axis_text(values)}"
    fixed = fixed_text(summary)
    if fixed:
        yield f"- fixed: {fixed}"
    for cut in cuts(Path(summary.table).with_suffix(".toml")):
        yield f"- cut: {cut}"
    if summary.build:
        yield f"- build: {'; '.join(text for _, text in build_rows(summary.build))}"
    yield f"- {optimum_text(summary)}"
    for trend in summary.trends:
        yield f"- over {AXIS_WORDS[trend.axis]}, at the best temperature of each row: {trend_text(trend)}"
    rows = f"{data.column_name} and {data.row_name}"
    yield f"\n![Test error of {summary.family} over {rows}]({picture})\n"
    yield markdown(profile) + "\n"
    yield markdown(label_rows(summary.questions))
    yield "\n" + " ".join(causes_text(summary).split()) + "\n"
    if summary.agreement:
        yield f"{halves_text(summary.agreement)}:\n"
        yield markdown(agreement_rows(summary.agreement)) + "\n"


def cuts(specification: Path) -> list[str]:
    """What the specification says was left out of the grid."""
    if not specification.is_file():
        return []
    lines = specification.read_text(encoding="utf-8").splitlines()
    return [line.removeprefix(CUT).strip() for line in lines if line.startswith(CUT)]


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first row is the heading, all columns but the first stand to the right."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(rows[0]) - 1), *lines[1:]])


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:]]
    main(*given, *(HERE.parent / "zoo_samples", HERE / "zoos.md")[len(given) :])
