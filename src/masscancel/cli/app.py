"""The typer application: its commands, and how any of them ends."""

import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.main import get_command

from masscancel.cli.demo import demo
from masscancel.cli.guard import guard
from masscancel.cli.orders import cancel, orders
from masscancel.cli.render import complain
from masscancel.cli.simulate import sim
from masscancel.cli.status import EPILOG, GUARD_EPILOG, Known, Status, status_of
from masscancel.cli.venues import venues
from masscancel.cli.watch import watch
from masscancel.errors import MassCancelError

__all__ = ["app", "run"]

app = typer.Typer(
    name="masscancel",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _help(command: Callable[..., int]) -> str:
    """A command's docstring, its paragraphs on a line each; indented ones stay as they are."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(
        part if part.startswith(" ") else part.replace("\n", " ") for part in paragraphs
    )


_COMMANDS: Final[Sequence[Callable[..., int]]] = (
    demo,
    cancel,
    orders,
    watch,
    guard,
    sim,
    venues,
)
for _command in _COMMANDS:
    app.command(
        help=_help(_command),
        epilog=GUARD_EPILOG if _command is guard else EPILOG,
        # what follows guard's COMMAND is that command's own
        context_settings={"allow_interspersed_args": _command is not guard},
    )(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"masscancel {version('masscancel')}")
        raise typer.Exit


@app.callback(invoke_without_command=True, epilog=EPILOG)
def masscancel(
    ctx: typer.Context,
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Cancel every open order, at once. 'masscancel demo' shows how, and needs no exchange."""
    if ctx.invoked_subcommand is None:
        ctx.get_help()
        raise typer.Exit(Status.USAGE)


def run(arguments: Sequence[str]) -> int:
    """Run one command. Whatever goes wrong is one line on standard error and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    known = Known()
    try:
        status = get_command(app).main(
            args=list(arguments), prog_name="masscancel", standalone_mode=False, obj=known
        )
    except MassCancelError as error:
        return _fail(status_of(error), str(error))
    except (KeyboardInterrupt, typer.Abort):
        status = Status.INTERRUPTED
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        why = error.strerror or type(error).__name__
        return _fail(_stopped(known), f"{where}{why}; {known.words}")
    except Exception as error:  # noqa: BLE001  # a traceback may show what is secret
        return _fail_oddly(error, known)
    if status == Status.INTERRUPTED and not known.is_over:  # typer makes 130 of Ctrl-C, too
        if sys.stderr.isatty():
            sys.stderr.write("\n")  # after the terminal's own ^C
        complain(f"interrupted; {known.words}")
    return int(status or 0)


def _fail(status: Status, line: str) -> Status:
    complain(line)
    return status


def _stopped(known: Known) -> Status:
    return Status.UNKNOWN if known.may_have_executed else Status.FAILED


def _fail_oddly(error: Exception, known: Known) -> Status:
    """A usage error of typer's, or a bug: that shows where it happened, and no value."""
    say = getattr(error, "format_message", None)  # what typer's usage errors have in common
    if callable(say):
        at = getattr(getattr(error, "ctx", None), "command_path", "masscancel")
        return _fail(Status.USAGE, f"{say().rstrip('.')}; see '{at} --help'")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}:{frame.lineno}"
    bug = f"unexpected {type(error).__name__} at {where}, please report it; {known.words}"
    return _fail(_stopped(known), bug)
