"""A strategy with an instrumentation in its process: cancels, is refused once, and shows spans.

Run with the arguments INSTRUMENTATION VENUE CATEGORY URL STREAM_URL; writes one JSON object.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

SECRETS = [os.environ[f"MASSCANCEL_{name}"] for name in ("API_KEY", "API_SECRET", "PASSPHRASE")]


def sentry(shown: list[str]) -> None:
    """Sentry, with its default integrations, tracing and local variables; nothing leaves."""
    import sentry_sdk
    from sentry_sdk.transport import Transport

    class Kept(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            shown.append(envelope.serialize().decode(errors="replace"))

    sentry_sdk.init(
        dsn="https://public@localhost/1",
        transport=Kept,
        traces_sample_rate=1.0,
        include_local_variables=True,
    )


def opentelemetry(shown: list[str]) -> None:
    """OpenTelemetry's instrumentation of aiohttp's client."""
    from opentelemetry import trace
    from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

    class Kept(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            shown.extend(span.to_json() for span in spans)
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Kept()))
    trace.set_tracer_provider(provider)
    AioHttpClientInstrumentor().instrument()


def ddtrace(_: list[str]) -> None:
    """Datadog's patch of aiohttp and asyncio."""
    import ddtrace

    ddtrace.patch(aiohttp=True, asyncio=True)


def elastic(_: list[str]) -> None:
    """Elastic's instrumentation of aiohttp."""
    import elasticapm

    elasticapm.Client(service_name="strategy", disable_send=True, enabled=True)
    elasticapm.instrument()


INSTRUMENTATIONS: dict[str, Callable[[list[str]], None]] = {
    "sentry": sentry,
    "opentelemetry": opentelemetry,
    "ddtrace": ddtrace,
    "elastic": elastic,
}


async def main(venue_name: str, category: str, url: str, stream_url: str) -> dict[str, Any]:
    """Cancel and prove; report what happened."""
    from masscancel import Client, Credentials, MassCancelError
    from masscancel.venues import load

    settings: dict[str, dict[str, Any]] = {
        "ascendex": {"rest_url": url, "stream_url": stream_url, "account_group": 6},
        "binance": {"spot_url": url, "usdm_url": url},
        "bitget": {"rest_url": url},
        "bybit": {"rest_url": url, "stream_url": stream_url},
        "gate": {"rest_url": url},
        "kraken": {"spot_url": url, "futures_url": url},
        "kucoin": {"spot_url": url, "futures_url": url},
        "okx": {"rest_url": url, "stream_url": stream_url},
    }
    venue = load(venue_name)(**settings[venue_name])
    async with Client(Credentials.from_env(), venue=venue, categories=[category]) as client:
        proof = await client.cancel_all_and_confirm(category, settle=0.05)
        with suppress(MassCancelError):  # so that there is something to report
            await client.open_orders(category, timeout=0.001)
    return {"sweeps": proof.sweeps, "attempts": len(proof.acks[0].attempts)}


if __name__ == "__main__":
    instrumentation, *rest = sys.argv[1:]
    shown: list[str] = []
    INSTRUMENTATIONS[instrumentation](shown)
    result = asyncio.run(main(*rest))
    seen = [secret for secret in SECRETS if any(secret in text for text in shown)]
    json.dump({**result, "shown": seen}, sys.stdout)
