"""Structured logs: a formatter that writes each record of masscancel as one JSON object."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from masscancel.events import Event
from masscancel.telemetry.attributes import attributes_of, name_of

__all__ = ["JsonFormatter"]


class JsonFormatter(logging.Formatter):
    """Writes a record as a JSON object on one line, in ASCII; of an event, all that it says.

    ``timestamp`` (UTC), ``level``, ``logger`` and ``message``, and of an event its ``event.name``
    and its attributes. Put it on a handler of the logger ``masscancel``, whose level says what is
    written: ``INFO`` for the end of each call, ``DEBUG`` for each event.

    Example:
        >>> handler = logging.StreamHandler()
        >>> handler.setFormatter(JsonFormatter())
        >>> logging.getLogger("masscancel").addHandler(handler)
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        at = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, Any] = {
            "timestamp": at.isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if isinstance(record.args, tuple) and record.args and isinstance(record.args[0], Event):
            event = record.args[0]
            fields |= {"event.name": name_of(event), **attributes_of(event)}
        if record.exc_info and record.exc_info[0]:
            kind, problem, _ = record.exc_info
            fields["exception.type"] = kind.__name__
            fields["exception.message"] = str(problem)
            fields["exception.stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(fields)
