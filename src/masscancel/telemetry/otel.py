"""OpenTelemetry: spans and metrics (extra ``otel``). What becomes of them is the user's SDK's."""

import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Final, TypeAlias

from masscancel.errors import ConfigurationError
from masscancel.events import AttemptEnded, AttemptSent, CallEnded, CallStarted, Event
from masscancel.telemetry.attributes import Attributes, attributes_of, error_type
from masscancel.telemetry.measures import INSTRUMENTS, Instrument, measures

try:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter, MeterProvider, get_meter
    from opentelemetry.trace import (
        Span,
        SpanKind,
        StatusCode,
        TracerProvider,
        get_tracer,
        set_span_in_context,
    )
except ImportError as error:
    raise ImportError("OpenTelemetry wants its extra: pip install 'masscancel[otel]'") from error

__all__ = ["OpenTelemetry"]

_NAME: Final = "masscancel"
#: A call by its id and 0, an attempt by its call's id and its number.
_Key: TypeAlias = tuple[str, int]


class OpenTelemetry:
    """A listener that makes a span of each public call, one of each of its attempts, and metrics.

    A call's span has for its parent what was the caller's current span. A failure ends a span with
    the status *error* and the class of the error as ``error.type``. May be called from any thread.

    Args:
        tracer_provider: whose spans they are; ``None`` for the process's own.
        meter_provider: whose metrics they are; ``None`` for the process's own.
        most_open: how many spans may be open at once; of more, the oldest is ended as an error.

    Raises:
        ConfigurationError: ``most_open`` is no positive number.

    Example:
        >>> unsubscribe = masscancel.subscribe(OpenTelemetry())
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        most_open: int = 10_000,
    ) -> None:
        if not most_open > 0:
            raise ConfigurationError(f"most_open must be positive, not {most_open!r}")
        self._tracer = get_tracer(_NAME, version(_NAME), tracer_provider)
        meter = get_meter(_NAME, version(_NAME), meter_provider)
        self._records = {instrument: _record(meter, instrument) for instrument in INSTRUMENTS}
        self._most = most_open
        self._lock = threading.RLock()
        self._open: dict[_Key, Span] = {}  # the oldest first

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        for instrument, value, attributes in measures(event):
            self._records[instrument](value, attributes)
        match event:
            case CallStarted():
                name = f"{event.name} {event.venue}"
                span = self._tracer.start_span(name, attributes=attributes_of(event))
                self._keep((event.call_id, 0), span)
            case AttemptSent():
                self._keep((event.call_id, event.attempt), self._start_attempt(event))
            case AttemptEnded():
                sent = self._take((event.call_id, event.attempt))
                _end(self._start_attempt(event) if sent is None else sent, event)
            case CallEnded():
                _end(self._take((event.call_id, 0)), event)

    def _start_attempt(self, event: AttemptSent | AttemptEnded) -> Span | None:
        """The span of an attempt, from now on; none if its call has none."""
        call = self._open.get((event.call_id, 0))
        if call is None:
            return None
        return self._tracer.start_span(
            f"{event.path} attempt",
            set_span_in_context(call, Context()),
            SpanKind.CLIENT,
            attributes_of(event),
        )

    def _take(self, key: _Key) -> Span | None:
        with self._lock:
            return self._open.pop(key, None)

    def _keep(self, key: _Key, span: Span | None) -> None:
        """Keep an open span until its end; end the oldest if there are too many."""
        if span is None or not span.is_recording():
            return
        lost = []
        with self._lock:
            self._open[key] = span
            while len(self._open) > self._most:
                lost.append(self._open.pop(next(iter(self._open))))
        for each in lost:
            each.set_attribute("error.type", "lost")
            each.set_status(StatusCode.ERROR, "nothing was heard of its end")
            each.end()


def _end(span: Span | None, event: AttemptEnded | CallEnded) -> None:
    """End a span, now, as an event says."""
    if span is None:
        return
    span.set_attributes(attributes_of(event))
    if error_type(event):
        words = event.outcome if isinstance(event, CallEnded) else event.reason
        span.set_status(StatusCode.ERROR, words)
    span.end()


def _record(meter: Meter, instrument: Instrument) -> Callable[[float, Attributes], None]:
    """The function that adds to an instrument."""
    name, unit, description = instrument.name, instrument.unit, instrument.description
    if not instrument.buckets:
        return meter.create_counter(name, unit, description).add
    buckets = instrument.buckets
    return meter.create_histogram(
        name, unit, description, explicit_bucket_boundaries_advisory=buckets
    ).record
