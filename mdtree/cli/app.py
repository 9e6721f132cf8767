"""The group of all commands, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback

import click
from click.shell_completion import CompletionItem

from mdtree.cli.manners import SUMMARIES, app_epilog, nearest, version_text, with_examples
from mdtree.errors import MDTreeError, ResourceError

BUG = 70
INTERRUPTED = 130


class _LazyGroup(click.Group):
    """Commands are imported when called: `mdtree --help` starts no torch."""

    _rooms = {  # noqa: RUF012 - click groups hold their commands this way
        "diagnose": ("mdtree.cli.measuring", "diagnose_command"),
        "measure": ("mdtree.cli.measuring", "measure_command"),
        "report": ("mdtree.cli.reporting", "report_command"),
        "check": ("mdtree.cli.check", "check_command"),
        "layers": ("mdtree.cli.layers", "layers_command"),
        "zoo": ("mdtree.cli.zoo", "zoo_group"),
        "train": ("mdtree.cli.deciding", "train_command"),
        "evaluate": ("mdtree.cli.deciding", "evaluate_command"),
        "transfer": ("mdtree.cli.transfer", "transfer_command"),
        "verify-advice": ("mdtree.cli.verify_advice", "verify_advice_command"),
        "cache": ("mdtree.cli.cache", "cache_group"),
        "benchmark": ("mdtree.cli.benchmark", "benchmark_group"),
        "serve": ("mdtree.cli.serve", "serve_command"),
        "schema": ("mdtree.cli.schema", "schema_command"),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._rooms)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._rooms:
            return None
        from importlib import import_module

        module, name = self._rooms[cmd_name]
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return with_examples(command, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self._rooms and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command {name!r}. {nearest(name, list(self._rooms))}".rstrip())
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in self._rooms])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names without their modules: a person waits for each."""
        names = [name for name in self._rooms if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=SUMMARIES[name]) for name in names), *options]


def _show_version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(version_text())
        ctx.exit()


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=app_epilog(),
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the versions that a report of a defect needs.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def app(debug: bool) -> None:
    """Why does this network disappoint, and what to change."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 done; 1 a verdict that --fail-on asked for; 2 bad input; 3 out of memory or disk; 4 undetermined with
    --strict; 70 a defect of mdtree; 130 interrupted.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        code = app.main(args=words, prog_name="mdtree", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        code = _say("interrupted", INTERRUPTED)
    except KeyboardInterrupt:
        code = _say("interrupted", INTERRUPTED)
    except click.ClickException as error:
        error.show()
        code = 2
    except BrokenPipeError:
        # the reader of our output has seen enough; nothing more can be written, at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        code = _failed(error, "--debug" in words)
    sys.exit(code if isinstance(code, int) else 0)


def _failed(error: Exception, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    if isinstance(error, MDTreeError):
        return _say_error(error)
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return _say(f"out of memory ({error}); try a smaller --batch-size", ResourceError.exit_code)
    if isinstance(error, OSError) and error.errno in (28, 122):
        return _say(f"the disk is full ({error.filename}); what was finished is kept", ResourceError.exit_code)
    return _say(
        f"a defect of mdtree: {type(error).__name__}: {error}; please report it with the output of --debug", BUG
    )


def _say(message: str, code: int) -> int:
    """One line on standard error."""
    click.echo("mdtree: " + " ".join(message.split()), err=True)
    return code


def _say_error(error: MDTreeError) -> int:
    """One line on standard error; where the mend is something to write, its lines below."""
    first, *further = error.mend.split("\n")
    code = _say(str(type(error)(error.got, error.expected, first)), error.exit_code)
    for line in further:
        click.echo(f"  {line.rstrip()}", err=True)
    return code
