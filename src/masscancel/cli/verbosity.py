"""Options for how much a command says: ``-v``, ``-vv``, ``--log-level``, on every command."""

import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, Final, Literal

import typer

from masscancel.cli.render import clean

__all__ = ["LogLevel", "Verbose", "is_verbose", "quiet", "speak", "speaking"]

Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        help="Say on standard error what happens; -vv: each attempt, too.",
    ),
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"] | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        case_sensitive=False,
        help="The same by name: debug, info, warning or error.",
    ),
]

_LOG: Final = logging.getLogger("masscancel")
_LINE: Final = "%(asctime)s.%(msecs)03d %(levelname)s %(message)s"


class _OneLine(logging.Formatter):
    """Lines that nobody's text can break out of."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own
        """The line, clean; a traceback follows on lines of its own."""
        return clean(super().formatMessage(record))


class _StandardError(logging.StreamHandler[Any]):
    """Writes to what is standard error at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        self.stream = sys.stderr
        super().emit(record)


@contextmanager
def quiet() -> Iterator[None]:
    """Say nothing by logging, unless :func:`speak` is called meanwhile."""
    handlers, level = [*_LOG.handlers], _LOG.level
    _LOG.addHandler(logging.NullHandler())
    try:
        yield
    finally:
        _LOG.handlers[:] = handlers
        _LOG.setLevel(level)


def speak(verbose: int, log_level: str | None) -> None:
    """Log to standard error from now on, if either option was given; never less than before."""
    if log_level is None and not verbose:
        return
    named = logging.getLevelName(log_level.upper()) if log_level is not None else logging.ERROR
    counted = (logging.ERROR, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    level = min(named, counted)
    if not any(isinstance(each, _StandardError) for each in _LOG.handlers):
        handler = _StandardError()
        handler.setFormatter(_OneLine(_LINE, "%H:%M:%S"))
        _LOG.addHandler(handler)
    elif _LOG.level:
        level = min(level, _LOG.level)
    _LOG.setLevel(level)


def is_verbose() -> bool:
    """Whether anything is logged to standard error, so that nothing else may move there."""
    return any(isinstance(each, _StandardError) for each in _LOG.handlers)


def speaking(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options ``-v`` and ``--log-level``, behind its own."""

    @wraps(command)
    def with_log(
        *arguments: Any, verbose: int = 0, log_level: str | None = None, **options: Any
    ) -> int:
        speak(verbose, log_level)
        return command(*arguments, **options)

    signature = inspect.signature(command)
    more = {"verbose": (Verbose, 0), "log_level": (LogLevel, None)}
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        *signature.parameters.values(),
        *(
            inspect.Parameter(name, keyword, default=default, annotation=annotation)
            for name, (annotation, default) in more.items()
        ),
    ]
    with_log.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return with_log
