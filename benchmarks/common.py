"""What the harness, its server and its workers agree on."""

import importlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Every account's. It opens nothing but the loopback server.
SECRET = "secret-of-the-benchmark"  # noqa: S105  # see above
HERE = Path(__file__).resolve().parent


def key_of(group: int) -> str:
    """The API key of the account with this group."""
    return f"key-{group}"


def symbols(count: int) -> list[str]:
    """So many symbols, ``S0/USDT`` and on."""
    return [f"S{number}/USDT" for number in range(count)]


@dataclass(frozen=True)
class Where:
    """Where the loopback server listens."""

    port: int

    @property
    def rest(self) -> str:
        """The origin of the REST side."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream(self) -> str:
        """The origin of the websocket side."""
        return f"ws://127.0.0.1:{self.port}"


def pin(core: int | None) -> None:
    """Stay on one core, where the platform can."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})


def cores() -> list[int]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def processor() -> str:
    """The processor's model, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


CONTENDERS = {
    "ours": "contenders.ours:Ours",
    "ours-stream": "contenders.ours:OursStream",
    "ours-both": "contenders.ours:OursBoth",
    "raw": "contenders.raw:Raw",
    "raw-stream": "contenders.raw:RawStream",
    "aiohttp": "contenders.idiom:Idiom",
    "httpx": "contenders.httpx_client:Httpx",
    "demo": "contenders.demo:Demo",
    "ccxt": "contenders.ccxt_client:Ccxt",
}


def contender_of(name: str) -> Any:
    """The contender of this name, not opened yet."""
    module, _, cls = CONTENDERS[name].partition(":")
    return getattr(importlib.import_module(module), cls)()
