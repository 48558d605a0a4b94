"""The ``masscancel`` command. It needs the extra ``cli``: typer and rich."""

import sys

__all__ = ["main"]

_NEEDED = ("typer", "rich")


def main() -> int:
    """Run the command line with the arguments of this process; returns the exit status."""
    try:
        from masscancel.cli.app import run  # noqa: PLC0415  # so that its absence is one clear line
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _NEEDED:
            raise
        line = f"masscancel: the command line needs {missing}: pip install 'masscancel[cli]'"
        print(line, file=sys.stderr)  # noqa: T201  # this is a command
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was sent", file=sys.stderr)  # noqa: T201  # this is a command
        return 130
    return run(sys.argv[1:])
