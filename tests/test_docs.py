"""README and docs are true: their commands exist, links lead somewhere, figures are right, and the site builds."""

import ast
import re
import runpy
import shlex
import subprocess
import sys
import tomllib

import click
import pytest
import yaml
from doc_pages import GENERATED, LANGUAGES, README_MARKS, REASONS, ROOT, Block, blocks, pages
from doc_stand_ins import STAND_INS
from run_page import coarse, expanded, first_missing

import landscape
import mdtree
from mdtree.cli.app import app
from mdtree.record import RECORD_METRICS
from mdtree.zoo import COLUMNS

PAGES = sorted(pages())
WITH_CODE = [name for name in PAGES if any(not block.not_run for block in blocks(pages()[name]))]
DOCS = ROOT / "docs"


def all_blocks():
    return [block for file in pages().values() for block in blocks(file)]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_its_language_and_why_it_is_not_run(page):
    for block in blocks(pages()[page]):
        assert block.language in LANGUAGES, f"{block.place}: a block of {block.language or 'no language'}"
        assert not block.not_run or block.not_run.startswith(REASONS), f"{block.place}: {block.not_run}"


def test_marks_and_stand_ins_belong_to_something():
    readme = [block.text for block in blocks(pages()["README.md"])]
    for beginning in README_MARKS:
        assert sum(text.startswith(beginning) for text in readme) == 1, beginning
    assert set(STAND_INS) <= set(WITH_CODE)
    assert all((DOCS / name).exists() for name in GENERATED)


@pytest.mark.parametrize("block", [b for b in all_blocks() if b.not_run], ids=lambda block: block.place)
def test_a_block_that_is_not_run_is_still_well_formed(block):
    if block.language == "python":
        ast.parse(block.text)
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "console":
        for command in block.commands():
            check_command(block, list(command.words))


def test_workflow_files_call_commands_that_exist():
    workflows = [block for block in all_blocks() if block.language == "yaml"]
    assert workflows
    for block in workflows:
        jobs = yaml.safe_load(block.text)["jobs"]
        lines = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
        commands = [words for line in lines if (words := shlex.split(line.split(" >")[0]))[0] == "mdtree"]
        assert commands, block.place
        for words in commands:
            check_command(block, words)


def check_command(block, words):
    """Whether an `mdtree` command line has these commands, options and as many arguments."""
    if words[0] != "mdtree":
        return
    with click.Context(app, info_name="mdtree") as context:
        command, rest = app, expanded(words[1:])
        while isinstance(command, click.Group):
            _, command, rest = command.resolve_command(context, rest)
            assert command is not None, block.place
        try:
            command.make_context(command.name, rest, parent=context)
        except click.exceptions.Exit:
            pass
        except click.ClickException as error:
            pytest.fail(f"{block.place}: {' '.join(words)}: {error.format_message()}")


def test_a_wrong_option_in_a_block_that_is_not_run_is_found():
    block = Block("page.md", 1, "console", "mdtree zoo build my.toml --no-such-option")
    with pytest.raises(pytest.fail.Exception, match="no-such-option"):
        check_command(block, list(block.commands()[0].words))


def test_shown_output_is_compared_line_by_line():
    printed = ["name", "", "  Verdict   too hot  (81.24%)", "Expect +3 points", "last"]
    assert first_missing(["name", "Verdict too hot (81.1%)", "..."], printed) is None
    assert first_missing(["...", "  Expect ...", "last"], printed) is None
    assert first_missing(["Expect +3 points"], printed) == "Expect +3 points"
    assert first_missing(["...", "Expect +4 points"], printed) == "Expect +4 points"
    assert first_missing(["name", "...", "Expect +3 points", "first"], printed) == "first"
    assert coarse("a  = 1.25634 ± 3e-05") == "a = 1.3 ± 3e-05"


def test_a_block_that_ends_in_a_files_name_is_that_file():
    assert Block("page.md", 1, "toml", "# my_zoo.toml\nseeds = 3").file == "my_zoo.toml"
    assert Block("page.md", 1, "python", "import torch  # train.py\n").file == "train.py"
    assert Block("page.md", 1, "python", "x = 1  # to train on\n").file is None


@pytest.mark.parametrize("page", sorted(["README.md", *(file.name for file in DOCS.glob("*.md"))]))
def test_links_lead_to_files_and_headings_that_exist(page):
    file = ROOT / page if page == "README.md" else DOCS / page
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(file)):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        linked = file.parent / name if name else file
        assert linked.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page}: {target}"


def without_code(file):
    return re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(file):
    """The names that GitHub and MyST give headings."""
    headings = re.findall(r"^#+ (.+)$", without_code(file), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_metric_has_its_paragraph():
    headings = re.findall(r"^### (.+)$", (DOCS / "metrics.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(headings))) == sorted(RECORD_METRICS)


def test_every_public_name_is_in_the_reference():
    for page, package in (("api_mdtree.md", mdtree), ("api_landscape.md", landscape)):
        text = (DOCS / page).read_text(encoding="utf-8")
        named = re.findall(rf"^\.\. auto\w+:: {package.__name__}\.(\w+)$", text, flags=re.MULTILINE)
        assert sorted(named) == sorted(package.__all__), page


def test_every_flag_has_its_line():
    from mdtree.flag_text import FLAG_TEXT, NUMBERED_FLAG_TEXT

    page = (DOCS / "output.md").read_text(encoding="utf-8")
    flags = [*FLAG_TEXT, *(f"{flag}_N" for flag in NUMBERED_FLAG_TEXT)]
    assert [flag for flag in flags if f"`{flag}`" not in page] == []


def test_every_column_of_a_zoo_table_has_its_line():
    page = (DOCS / "zoo_table.md").read_text(encoding="utf-8")
    assert [name for name in COLUMNS if name not in RECORD_METRICS and f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", sorted(file.name for file in DOCS.glob("*.md")))
def test_no_page_knows_a_machine(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    assert re.findall(r"(?:/home/|/root/|/work/|/tmp/|/Users/|C:\\)", text) == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    options = ["-q", "-W", "--keep-going", "-b", "html", "-d", tmp_path / "doctrees"]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, DOCS, tmp_path / "html"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    built = tmp_path / "html"
    assert_self_contained(built)
    for file in DOCS.glob("*.md"):
        assert (built / f"{file.stem}.html").is_file(), file.name


def assert_self_contained(built):
    """No page loads anything from elsewhere, and every link inside the site has an end."""
    pages_of_site = {file: file.read_text(encoding="utf-8") for file in built.rglob("*.html")}
    for file, text in pages_of_site.items():
        loaded = re.findall(r"<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)=\"(https?:)?//[^\"]*\"", text)
        assert loaded == [], file.name
        for target in re.findall(r"<a\b[^>]*?\bhref=\"([^\"]*)\"", text):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            linked = (file.parent / name).resolve() if name else file
            assert linked.exists(), f"{file.name}: {target}"
            if anchor and linked in pages_of_site:
                assert f'id="{anchor}"' in pages_of_site[linked], f"{file.name}: {target}"


def test_the_command_line_reference_lists_every_command_in_the_order_of_the_help():
    listed = re.search(r":commands: (\S+)", (DOCS / "commands.md").read_text(encoding="utf-8"))
    assert listed is not None
    with click.Context(app) as context:
        assert listed[1].split(",") == app.list_commands(context)


def test_the_figures_of_limits_are_those_of_the_readme():
    text, readme = ((file).read_text(encoding="utf-8") for file in (DOCS / "limits.md", ROOT / "README.md"))
    numbers = re.compile(r"\d[\d,]*(?:\.\d+)?(?: \(\d+\)| %)?")
    named = {number for number in numbers.findall(text) if re.sub(r"\D", "", number) not in ("2", "50")}
    assert len(named) > 60
    assert named - set(numbers.findall(readme)) == set()


@pytest.mark.parametrize(
    ("start", "row"),
    [
        (start, row)
        for start in ("| a data set (3) |", "| a family (19) |", "| an architecture (6) |")
        for row in ("one checkpoint", "with a sibling")
    ],
)
def test_the_table_of_limits_is_that_of_the_readme(start, row):
    text, readme = ((file).read_text(encoding="utf-8") for file in (DOCS / "limits.md", ROOT / "README.md"))
    shown = next(line for line in text[text.index(start) :].splitlines() if f"| {row} |" in line)
    given = next(line for line in readme[readme.index(start) :].splitlines() if f"| tree, {row} |" in line)
    assert [cell.strip() for cell in shown.split("|")[3:7]] == [cell.strip() for cell in given.split("|")[3:7]]


@pytest.mark.slow
def test_the_gallery_is_what_mdtree_says_today(tmp_path):
    script = runpy.run_path(str(DOCS / "gallery.py"))
    found = script["diagnosed"]()
    # what is rounding: bounds of Lanczos far below the value
    ignored = re.compile(r"± [\d.]+e-\d+|-?[\d.]+e-(?:0[7-9]|\d\d\b)")
    today, committed = (
        [coarse(ignored.sub("", line)) for line in text.splitlines()]
        for text in (script["page"](found), (DOCS / "gallery.md").read_text(encoding="utf-8"))
    )
    assert today == committed
    assert sorted(file.stem for file, _ in found) == sorted(file.stem for file in (DOCS / "gallery").iterdir())
    assert sum("**wrong**" in line for line in today) == 2
    script["draw"](found[0][1], tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 50_000


@pytest.mark.slow
def test_the_values_of_metrics_are_those_of_the_zoos(tmp_path):
    subprocess.run(
        [sys.executable, DOCS / "metrics.py", tmp_path / "metric_values.md"], check=True, capture_output=True
    )
    written = (tmp_path / "metric_values.md").read_text(encoding="utf-8")
    assert written == (DOCS / "metric_values.md").read_text(encoding="utf-8")
