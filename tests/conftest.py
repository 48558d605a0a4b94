"""What the tests share: which are played and measured, a patch for aioresponses, fixtures."""

from __future__ import annotations

import importlib
import os
import pkgutil
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import aioresponses.core
import pytest
import pytest_asyncio
from coverage import Coverage
from hypothesis import is_hypothesis_test, settings

import masscancel
from everyday import leave_to_adversity
from masscancel.sim import SimulatedExchange
from masscancel.transport.ledger import LEDGER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# A red run can be repeated. `make adversity` tries some more; `--hypothesis-profile=explore` looks
# further afield.
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=30)
settings.register_profile("thorough", deadline=None, derandomize=True, max_examples=400)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile("repeatable")

#: What measures coverage in this process, if it is measured.
_COVERAGE = pytest.StashKey[Coverage | None]()
#: In the environment, it has coverage measure the processes that are started.
_MEASURE_PROCESSES = "COVERAGE_PROCESS_CONFIG"
#: What that is, for the tests that want it.
_PROCESSES = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """End the first of two measurements that pytest-cov begins in a worker; the second counts."""
    if hasattr(config, "workerinput") and (first := Coverage.current()):
        first.stop()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Leave the workers to pytest-cov: coverage would measure them once more."""
    os.environ.pop(_MEASURE_PROCESSES, None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Measure how the package's modules are imported, and stop: tests are only read now."""
    session.config.stash[_COVERAGE] = coverage = Coverage.current()
    session.config.stash[_PROCESSES] = os.environ.get(_MEASURE_PROCESSES, "")
    if coverage:
        for module in pkgutil.walk_packages(masscancel.__path__, "masscancel."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        coverage.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Choose the cases of every day. What plays hundreds of examples is not measured."""
    leave_to_adversity(items)
    for item in items:
        if is_hypothesis_test(getattr(item, "function", None)):
            item.add_marker(pytest.mark.unmeasured)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forget what the process has learnt of limits: another test's server had the same port.

    Measure coverage, or not, from here on: it doubles the time of all that runs meanwhile. What a
    test starts is measured only where that shows lines which no other test runs.
    """
    LEDGER.clear()
    measured = not item.get_closest_marker("unmeasured")
    coverage = item.config.stash[_COVERAGE]
    if coverage and measured != bool(Coverage.current()):
        (coverage.start if measured else coverage.stop)()
    if coverage and item.get_closest_marker("cover_processes"):
        os.environ[_MEASURE_PROCESSES] = item.config.stash[_PROCESSES]
    else:
        os.environ.pop(_MEASURE_PROCESSES, None)


class _Written:
    """Stands for a request that has been written whole."""

    output_size = 0


class _Response(aiohttp.ClientResponse):
    """A response that can be made as aioresponses makes them, without a `stream_writer`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", _Written())
        super().__init__(*args, **kwargs)


# aioresponses 0.7.9 does not know the argument, which aiohttp requires since 3.14 (its issue 289).
# To be deleted when a release does.
aioresponses.core.ClientResponse = _Response  # type: ignore[attr-defined]  # it imports the name


@pytest.fixture(scope="session", autouse=True)
def _journal_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands write into a journal of the tests' own, not into that of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))
        yield


@pytest_asyncio.fixture
async def exchange() -> AsyncIterator[SimulatedExchange]:
    """A simulated exchange that listens on loopback."""
    async with SimulatedExchange() as running:
        yield running


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every switch ends its thread."""
    before = {*threading.enumerate()}
    yield
    for thread in {*threading.enumerate()} - before:
        if thread.name == "masscancel-switch":
            thread.join(10)
            assert not thread.is_alive()
