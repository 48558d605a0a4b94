"""Telemetry on events: what OpenTelemetry, Prometheus and a log's reader are told.

:mod:`masscancel.telemetry.otel` makes spans and metrics (extra ``otel``),
:mod:`masscancel.telemetry.prometheus` a text to scrape, :mod:`masscancel.telemetry.logs` one JSON
object of each record. All of them say the same by the same names, which are OpenTelemetry's own
where it has one. Nothing in an event is secret, so nothing here is.
"""
