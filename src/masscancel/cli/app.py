"""The typer application: its commands, and how any of them ends."""

import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

import masscancel as masscancel_package
from masscancel.cli.failures import error_fields, failure
from masscancel.cli.render import complain, print_json
from masscancel.cli.status import (
    DOCTOR_EPILOG,
    EPILOG,
    GUARD_EPILOG,
    KILL_EPILOG,
    STATUSES_ELSEWHERE,
    Known,
    Status,
    status_of,
)
from masscancel.cli.verbosity import LogLevel, Verbose, quiet, speak, speaking
from masscancel.errors import MassCancelError

__all__ = ["app", "run"]

_HELP_OPTIONS: Final = {"help_option_names": ["-h", "--help"]}

#: Where each command is; it is loaded when it is wanted, since a kill has no time for a simulator.
_COMMANDS: Final = {
    "demo": "masscancel.cli.demo",
    "kill": "masscancel.cli.kill",
    "accounts": "masscancel.cli.accounts",
    "doctor": "masscancel.cli.doctor",
    "cancel": "masscancel.cli.cancel",
    "orders": "masscancel.cli.orders",
    "watch": "masscancel.cli.watch",
    "guard": "masscancel.cli.guard",
    "journal": "masscancel.cli.journal",
    "sim": "masscancel.cli.simulate",
    "venues": "masscancel.cli.venues",
}
_EPILOGS: Final = {"guard": GUARD_EPILOG, "kill": KILL_EPILOG, "doctor": DOCTOR_EPILOG}


class _Commands(TyperGroup):
    """The commands, each loaded when it is wanted."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of the help."""
        del ctx
        return [*_COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load a command; ``None`` if there is none of that name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands[cmd_name]


def _load(name: str) -> Any:
    command = getattr(import_module(_COMMANDS[name]), name)
    alone = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    alone.command(
        name,
        help=_help(command),
        epilog=_EPILOGS.get(name, STATUSES_ELSEWHERE),
        # what follows guard's COMMAND is that command's own
        context_settings={"allow_interspersed_args": name != "guard", **_HELP_OPTIONS},
    )(speaking(command))
    return get_command(alone)


def _help(command: Callable[..., int]) -> str:
    """A command's docstring, its paragraphs on a line each; indented ones stay as they are."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(
        part if part.startswith(" ") else part.replace("\n", " ") for part in paragraphs
    )


app = typer.Typer(
    cls=_Commands,
    name="masscancel",
    pretty_exceptions_enable=False,
    context_settings=_HELP_OPTIONS,
)


#: Where to begin, for who names no command: what for, and the line to type.
_FIRST_STEPS: Final = (
    ("a simulated market, killed", "masscancel demo"),
    ("an exchange to try it on", "masscancel sim"),
    ("one account", "masscancel cancel --venue NAME --category NAME"),
    ("the accounts of a file", "masscancel accounts"),
    ("what would fail", "masscancel doctor"),
    ("all of it, proven flat", "masscancel kill"),
    ("a strategy, whatever ends it", "masscancel guard ... -- python strategy.py"),
)
_BEGIN: Final = "\n".join(
    (
        "masscancel cancels every open order, at once. Where to begin:",
        "",
        *(f"  {what:30}{line}" for what, line in _FIRST_STEPS if line.split()[1] in _COMMANDS),
        "",
        "'masscancel --help' has every command, and the exit statuses; 'masscancel",
        "--install-completion' completes commands, venues and categories in your shell.",
        "Keys come from the environment or the accounts file; .env files are not read.",
    )
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"masscancel {masscancel_package.__version__}")
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
    verbose: Verbose = 0,
    log_level: LogLevel = None,
) -> None:
    """Cancel every open order, at once. 'masscancel demo' shows how, and needs no exchange.

    Keys come from the environment or from the accounts file; .env files are not read.
    """
    speak(verbose, log_level)
    if ctx.invoked_subcommand is None:
        typer.echo(_BEGIN)
        raise typer.Exit(Status.USAGE)


def run(arguments: Sequence[str]) -> int:
    """Run one command. Whatever goes wrong is one line on standard error and an exit status."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    known = Known()
    with quiet():
        try:
            status = get_command(app).main(
                args=list(arguments), prog_name="masscancel", standalone_mode=False, obj=known
            )
        except (KeyboardInterrupt, typer.Abort):
            status = Status.INTERRUPTED
        except Exception as error:  # noqa: BLE001  # a traceback may show what is secret
            known.as_json |= _asks_for_json(arguments)
            return _fail(error, known)
        if status == Status.INTERRUPTED and not known.is_over:  # typer makes 130 of Ctrl-C, too
            if sys.stderr.isatty():
                sys.stderr.write("\n")  # after the terminal's own ^C
            words = f"interrupted; {known.words}"
            perhaps = known.may_have_executed
            fields = failure(status, "Interrupted", words, may_have_executed=perhaps)
            return _end(known, Status.INTERRUPTED, words, fields)
        return int(status or 0)


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether JSON is wanted, where the arguments could not be read. Guard's may be another's."""
    own = [*arguments, "--"]
    return "--json" in own[: own.index("--")] and "guard" not in arguments


def _fail(error: Exception, known: Known) -> Status:
    """Say what went wrong, and choose the exit status."""
    if isinstance(error, MassCancelError):
        status, line = status_of(error), str(error)
        fields = {"ok": False, "status": status, "error": error_fields(error)}
        return _end(known, status, line, fields)
    kind, status = type(error).__name__, _stopped(known)
    say = getattr(error, "format_message", None)  # what typer's usage errors have in common
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        line = f"{where}{error.strerror or kind}; {known.words}"
    elif callable(say):
        at = getattr(getattr(error, "ctx", None), "command_path", "masscancel")
        kind, status, line = "UsageError", Status.USAGE, f"{say().rstrip('.')}; see '{at} --help'"
    else:  # a bug: it shows where it happened, and no value
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        line = f"unexpected {kind} at {where}, please report it; {known.words}"
    fields = failure(status, kind, line, may_have_executed=status is Status.UNKNOWN)
    return _end(known, status, line, fields)


def _stopped(known: Known) -> Status:
    return Status.UNKNOWN if known.may_have_executed else Status.FAILED


def _end(known: Known, status: Status, line: str, fields: dict[str, Any]) -> Status:
    """Say it in JSON, too, where that is wanted and standard output still takes it."""
    if known.as_json:
        with suppress(OSError):
            print_json(fields)
    complain(line)
    return status
