"""`mdtree report`, and how any command writes its diagnoses as a page or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mdtree.checkpoint_set import diagnose_set
from mdtree.diagnoser import default_diagnoser, read_diagnoser
from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.files import write_atomically
from mdtree.record import Record, read_json, record_from_dict
from mdtree.report_words import name_of, visible, words

STANDARD_OUTPUT = "-"

_MADE_HERE = '<meta name="generator" content="mdtree '


def report_options(command: Any) -> Any:
    """`--html FILE` and `--markdown FILE` for a click command."""
    for option in (
        click.option("--markdown", metavar="FILE", help="Write it as Markdown for a pull request; - prints it."),
        click.option("--html", metavar="FILE", help="Write it as one HTML page with pictures; - prints it."),
    ):
        command = option(command)
    return command


@click.command("report")
@click.argument("records", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECORD.json...")
@report_options
@click.option("--diagnoser", type=click.Path(path_type=Path), help="A diagnoser made by `mdtree train`.")
def report_command(records: tuple[Path, ...], html: str | None, markdown: str | None, diagnoser: Path | None) -> int:
    """Write saved measurements as a page that can be sent around, or as Markdown.

    RECORD.json is what `mdtree diagnose --json` or `mdtree measure --json` printed; nothing is measured again. Several
    become one comparison, and eight or more of one task are diagnosed as a set. Without --html and --markdown the page
    is written beside the record, to RECORD.html; that of several to report.html here.
    """
    judge = read_diagnoser(diagnoser) if diagnoser else default_diagnoser()
    saved = [pair for path in records for pair in _read(path)]
    diagnoses = diagnose_set(judge, [record for record, _ in saved])
    for diagnosis, (_, before) in zip(diagnoses, saved, strict=True):
        if before not in ("", diagnosis.verdict):
            click.echo(
                f"mdtree: {name_of(diagnosis.record)}: saved as {visible(words(before))}, told as "
                f"{words(diagnosis.verdict)} by the diagnoser {visible(judge.name)}",
                err=True,
            )
    if html is None and markdown is None:
        html = str(_default_page(records[0].with_suffix(".html") if len(saved) == 1 else Path("report.html")))
    write_reports(diagnoses, judge, html=html, markdown=markdown)
    return 0


def write_reports(
    diagnoses: Sequence[Diagnosis], diagnoser: Diagnoser, *, html: str | None = None, markdown: str | None = None
) -> None:
    """Write the reports that were asked for, each whole or not at all.

    Parameters
    ----------
    diagnoses : sequence of Diagnosis
    diagnoser : Diagnoser
        The one that made them.
    html, markdown : str, optional
        A file, or `-` for standard output.

    Raises
    ------
    InputError
        A file cannot be written, or both are to be printed.
    """
    if html == markdown == STANDARD_OUTPUT:
        raise InputError("--html - and --markdown - would both be printed", "one of them to a file")
    if html is not None:
        # what draws takes a second to import
        from mdtree.html_report import html_report

        _write(html, html_report(diagnoses, diagnoser), diagnoses)
    if markdown is not None:
        from mdtree.markdown_report import markdown_report

        _write(markdown, markdown_report(diagnoses, diagnoser), diagnoses)


def _read(path: Path) -> list[tuple[Record, str]]:
    """The records of a file, each with the verdict that was saved with it, if any."""
    values = read_json(path)
    several = isinstance(values, list)
    found = []
    for number, one in enumerate(values if several else [values], start=1):
        record = record_from_dict(one, f"{path}, no. {number}," if several else str(path))
        verdict = one.get("verdict")
        found.append((record, verdict if isinstance(verdict, str) else ""))
    if not found:
        raise InputError(f"{path} holds no record", "what `mdtree diagnose --json` prints")
    return found


def _default_page(page: Path) -> Path:
    """The same path, unless a file stands there that is no such page: it is not overwritten unasked."""
    try:
        ours = not page.exists() or _MADE_HERE in page.read_text(encoding="utf-8", errors="replace")[:4000]
    except OSError:
        ours = False
    if not ours:
        raise InputError(f"{page} exists and is no report of mdtree", "", "say where the page goes: --html FILE")
    return page


def _write(target: str, text: str, diagnoses: Sequence[Diagnosis]) -> None:
    if target == STANDARD_OUTPUT:
        click.echo(text, nl=False)
        return
    write_atomically(target, text.encode())
    if len(diagnoses) == 1:
        told = f"{words(diagnoses[0].verdict)} ({diagnoses[0].confidence:.0%})"
    else:
        told = f"{len(diagnoses)} checkpoints"
    # standard output may be the other report
    click.echo(f"{target}: {told}", err=True)
