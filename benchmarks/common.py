"""What the harness, its server and its contenders agree on."""

import ctypes
import importlib
import json
import os
import platform
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

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
    """Where the loopback server listens.

    Attributes:
        port: of 127.0.0.1.
        authority: the certificate, in PEM, by which the server is known; ``""`` for clear text.
    """

    port: int
    authority: str = ""

    @property
    def rest(self) -> str:
        """The origin of the REST side."""
        return f"http{'s' if self.authority else ''}://127.0.0.1:{self.port}"

    @property
    def stream(self) -> str:
        """The origin of the websocket side."""
        return f"ws{'s' if self.authority else ''}://127.0.0.1:{self.port}"

    @cached_property
    def context(self) -> ssl.SSLContext | None:
        """What verifies the server's certificate; ``None`` for clear text."""
        return ssl.create_default_context(cadata=self.authority) if self.authority else None

    def control(self, **command: Any) -> Any:
        """Tell the server something; its counters since the last ``reset``."""
        body = json.dumps(command).encode()
        request = Request(f"{self.rest}/control", body, method="POST")  # noqa: S310  # loopback
        with urlopen(request) as reply:  # noqa: S310  # loopback
            return json.load(reply)


@contextmanager
def server(core: int | None = None) -> Iterator[tuple[Where, Where, bool]]:
    """A server in a process of its own: in clear text, with TLS, and whether it has uvloop."""
    command = [sys.executable, "server.py", str(core)]
    with subprocess.Popen(  # noqa: S603  # our own script
        command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        hello = json.loads(child.stdout.readline())
        yield Where(hello["port"]), Where(hello["tls_port"], hello["authority"]), hello["uvloop"]
        child.stdin.close()


def pin_memory() -> None:
    """Let glibc take large blocks from its heap, as a process does that has freed such a one.

    asyncio reads into 256 KiB. Until glibc's threshold has risen above that, each read maps memory
    and unmaps it again; whether it has risen depends on what else the process has done before.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mmap_threshold, trim_threshold = -3, -1  # their names in malloc.h
        mallopt(mmap_threshold, 32 << 20)
        mallopt(trim_threshold, 64 << 20)


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
    "ours-ready": "contenders.ours:OursReady",
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
