"""Prometheus: a listener that counts, and the text that its server scrapes. Needs no package."""

import threading
from bisect import bisect_left
from itertools import accumulate
from typing import Any, Final

from masscancel.errors import ConfigurationError
from masscancel.events import Event
from masscancel.telemetry.measures import INSTRUMENTS, Instrument, measures

__all__ = ["CONTENT_TYPE", "Prometheus"]

#: What the text is served as: version 0.0.4 of Prometheus' exposition format.
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

#: OpenTelemetry's mark of what there were too many kinds of to be told apart.
_OVERFLOW: Final = (("otel.metric.overflow", True),)
_UNITS: Final = {"s": "_seconds"}
_ESCAPED: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Prometheus:
    """A listener that counts what happens, and says it as Prometheus wants to read it.

    Names are those of OpenTelemetry's metrics as its rules write them for Prometheus:
    ``masscancel_call_duration_seconds``. May be called from any thread.

    Args:
        most_series: so many series are kept of each metric; what would be one more is counted
            under ``otel_metric_overflow="true"``.

    Raises:
        ConfigurationError: it is no positive number.

    Example:
        >>> metrics = Prometheus()
        >>> unsubscribe = masscancel.subscribe(metrics)
        >>> metrics.text()
    """

    def __init__(self, *, most_series: int = 2000) -> None:
        if not most_series > 0:
            raise ConfigurationError(f"most_series must be positive, not {most_series!r}")
        self._most = most_series
        self._lock = threading.RLock()  # a signal's handler may shut a gate meanwhile
        # Of each series: how many values each bucket has, and the sum of them all.
        self._series: dict[Instrument, dict[tuple[Any, ...], list[float]]] = {
            instrument: {} for instrument in INSTRUMENTS
        }

    def __call__(self, event: Event) -> None:
        """Count an event."""
        for instrument, value, attributes in measures(event):
            labels = tuple(attributes.items())
            with self._lock:
                series = self._series[instrument]
                if labels not in series and len(series) >= self._most:
                    labels = _OVERFLOW
                numbers = series.setdefault(labels, [0] * (len(instrument.buckets) + 2))
                numbers[bisect_left(instrument.buckets, value)] += 1
                numbers[-1] += value

    def text(self) -> str:
        """All of it in Prometheus' text format; serve it as :data:`CONTENT_TYPE`."""
        with self._lock:
            found = [
                (instrument, [(labels, tuple(numbers)) for labels, numbers in series.items()])
                for instrument, series in self._series.items()
            ]
        lines: list[str] = []
        for instrument, series in found:
            name = _name(instrument.name) + _UNITS.get(instrument.unit, "")
            kind = "histogram" if instrument.buckets else "counter"
            name += "" if instrument.buckets else "_total"
            lines += [f"# HELP {name} {instrument.description}", f"# TYPE {name} {kind}"]
            for labels, (*counts, total) in series:
                if not instrument.buckets:
                    lines.append(f"{name}{_labels(*labels)} {total}")
                    continue
                cumulated = [*accumulate(counts)]
                bounds = (*instrument.buckets, "+Inf")
                lines += [
                    f"{name}_bucket{_labels(*labels, ('le', bound))} {count}"
                    for bound, count in zip(bounds, cumulated, strict=True)
                ]
                lines.append(f"{name}_sum{_labels(*labels)} {total}")
                lines.append(f"{name}_count{_labels(*labels)} {cumulated[-1]}")
        return "\n".join([*lines, ""])


def _name(name: str) -> str:
    return name.replace(".", "_")


def _labels(*labels: tuple[str, Any]) -> str:
    """Labels as they stand behind a name."""
    written = (f'{_name(name)}="{_text(value)}"' for name, value in labels)
    return f"{{{','.join(written)}}}" if labels else ""


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).translate(_ESCAPED)
