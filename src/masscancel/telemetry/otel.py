"""OpenTelemetry: spans and metrics (extra ``otel``). What becomes of them is the user's SDK's."""

import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Final, TypeAlias

from masscancel.errors import ConfigurationError
from masscancel.events import AttemptEnded, AttemptSent, CallEnded, CallStarted, Event
from masscancel.telemetry.attributes import Attributes, attributes_of, error_type
from masscancel.telemetry.measures import INSTRUMENTS, Instrument, measures

try:
    from opentelemetry.context import Context, get_current
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
#: What the beginning of a span has said already.
_SAID: Final = frozenset({*CallStarted.__struct_fields__, *AttemptSent.__struct_fields__})


class _Begun:
    """A call or an attempt that goes on. Its span is made when something ends.

    Args:
        event: its beginning.
        parent: the caller's context, or the attempt's call.
    """

    __slots__ = ("at_ns", "event", "parent", "span")

    def __init__(self, event: Event, parent: "Context | _Begun") -> None:
        self.at_ns = time.time_ns()
        self.event = event
        self.parent = parent
        self.span: Span | None = None


class OpenTelemetry:
    """A listener that makes a span of each public call, one of each of its attempts, and metrics.

    A call's span has for its parent what was the caller's current span. A failure ends a span with
    the status *error* and the class of the error as ``error.type``. Spans are handed to the SDK
    when the first attempt has ended, and not before: the request waits for none. May be called from
    any thread.

    Args:
        tracer_provider: whose spans they are; ``None`` for the process's own.
        meter_provider: whose metrics they are; ``None`` for the process's own.
        most_open: how many calls and attempts may go on at once; of more, the oldest ends as an
            error.

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
        self._open: dict[_Key, _Begun] = {}  # the oldest first

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case CallStarted():
                self._keep((event.call_id, 0), _Begun(event, get_current()))
            case AttemptSent():
                if call := self._open.get((event.call_id, 0)):
                    self._keep((event.call_id, event.attempt), _Begun(event, call))
            case AttemptEnded():
                begun = self._take((event.call_id, event.attempt))
                if begun is None and (call := self._open.get((event.call_id, 0))):
                    begun = _Begun(event, call)  # it never left
                self._end(begun, event, event.reason)
            case CallEnded():
                self._end(self._take((event.call_id, 0)), event, event.outcome)
        for instrument, value, attributes in measures(event):
            self._records[instrument](value, attributes)

    def _take(self, key: _Key) -> _Begun | None:
        with self._lock:
            return self._open.pop(key, None)

    def _keep(self, key: _Key, begun: _Begun) -> None:
        """Keep what has begun until its end; end the oldest if there is too much."""
        lost = []
        with self._lock:
            self._open[key] = begun
            while len(self._open) > self._most:
                lost.append(self._open.pop(next(iter(self._open))))
        for each in lost:
            span = self._span(each)
            span.set_attribute("error.type", "lost")
            span.set_status(StatusCode.ERROR, "nothing was heard of its end")
            span.end()

    def _end(self, begun: _Begun | None, event: Event, words: str) -> None:
        """End a span, now, as an event says."""
        if begun is None:
            return
        span = self._span(begun)
        span.set_attributes(attributes_of(event, without=_SAID))
        if error_type(event):
            span.set_status(StatusCode.ERROR, words)
        span.end()

    def _span(self, begun: _Begun) -> Span:
        """The span of a call or an attempt; made when it is first asked for."""
        if begun.span is None:
            event, parent = begun.event, begun.parent
            if isinstance(parent, _Begun):
                parent = set_span_in_context(self._span(parent), Context())
            name, kind = "attempt", SpanKind.CLIENT
            if isinstance(event, CallStarted):
                name, kind = f"{event.name} {event.venue}", SpanKind.INTERNAL
            begun.span = self._tracer.start_span(
                name, parent, kind, attributes_of(event), start_time=begun.at_ns
            )
        return begun.span


def _record(meter: Meter, instrument: Instrument) -> Callable[[float, Attributes], None]:
    """The function that adds to an instrument."""
    name, unit, description = instrument.name, instrument.unit, instrument.description
    if not instrument.buckets:
        return meter.create_counter(name, unit, description).add
    buckets = instrument.buckets
    return meter.create_histogram(
        name, unit, description, explicit_bucket_boundaries_advisory=buckets
    ).record
