"""The dead man's switch: fires when the strategy stops saying that it is alive.

It runs in a thread of its own, with an event loop, a pool and clients of its own, so that a stalled
strategy can't stall it. A held GIL or a stopped process can: ``masscancel guard``, which is another
process, can't be held up so. Where the venue has a switch of its own with exactly the target's
scope, that one is kept armed as well, and fires even if this process is gone.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Literal, Self

from masscancel.arguments import check_timeout
from masscancel.engine.gate import OrderGate
from masscancel.errors import ConfigurationError, MassCancelError
from masscancel.events import SwitchFired, killing
from masscancel.fanout import FanOutReport, Target, cancel_many, in_words
from masscancel.protection.on_exit import check_scopes, check_targets, note_failures, warm_up
from masscancel.protection.twins import Twinned, twins_of
from masscancel.transport.waiting import finish, run_to_end

__all__ = ["DeadMansSwitch"]

log = logging.getLogger("masscancel")

#: Counts the time in which the machine was suspended, too, where the system can.
_clock: Final = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
#: How long disarming waits for a renewal that may still arrive, at most, in seconds.
_OUTLAST: Final = 60.0
#: A venue's own switch is renewed so often in the time after which it fires.
RENEWALS: Final = 4


#: No strategy is silent for so long on purpose; a number of ms taken for seconds is larger.
LONGEST: Final = 300.0


class DeadMansSwitch:
    """Cancels every target, and proves it flat, when no beat has come for ``timeout`` seconds.

    An async context manager. Leaving it without :meth:`disarm` fires it, too. It fires once; what
    came of it is in ``report``. It does not need the strategy's event loop to run.

    Args:
        targets: a target, or many, of any clients; the switch makes clients of its own like them.
        timeout: how long the strategy may be silent, in seconds, 300 at most.
        cancel_timeout: seconds for the cancel and its proof.
        gate: is shut when the switch fires; its orders under way are waited for.
        on_fire: is called with the report, in the switch's thread.

    Raises:
        ConfigurationError: an argument can't be used; on entering, a client is not entered.
        ScopeError: on entering, a target's venue has no such scope.

    Example:
        >>> async with DeadMansSwitch(Target(client, "cash")) as switch:
        ...     async for quote in quotes:
        ...         switch.beat()
        ...     await switch.disarm()
    """

    def __init__(
        self,
        targets: Target | Iterable[Target],
        *,
        timeout: float = 15.0,
        cancel_timeout: float = 10.0,
        gate: OrderGate | None = None,
        on_fire: Callable[[FanOutReport], object] | None = None,
    ) -> None:
        self._targets = check_targets(targets)
        if not all(isinstance(target.client, Twinned) for target in self._targets):
            raise ConfigurationError("the switch needs targets whose client is a Client")
        self._timeout = check_timeout(timeout)
        if self._timeout > LONGEST:
            raise ConfigurationError(
                f"timeout is in seconds, {LONGEST:g} at most, not {timeout!r}: ccxt's are in ms"
            )
        self._cancel_timeout = check_timeout(cancel_timeout)
        self._gate = gate
        self._on_fire = on_fire
        self._last_beat = _clock()
        self._wanted: Literal["watch", "disarm", "fire"] = "watch"
        self._armed: Future[None] = Future()
        self._ended: Future[None] = Future()
        for future in (self._armed, self._ended):  # nobody who waits for it may cancel it
            future.set_running_or_notify_cancel()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: asyncio.Event | None = None
        self._native: list[Target] = []
        self._renewals = OrderGate("renewals")  # which of them may still be carried out
        #: What became of the targets, once it has fired.
        self.report: FanOutReport | None = None
        #: Whether it has fired.
        self.fired = False

    @property
    def kind(self) -> Literal["native", "emulated", "mixed"]:
        """Whether the venue's own switch covers the targets, this process alone does, or some each.

        A native switch is emulated as well, while this process lives.
        """
        if not self._native:
            return "emulated"
        return "native" if len(self._native) == len(self._targets) else "mixed"

    def beat(self) -> bool:
        """Say that the strategy is alive. Sends nothing; may be called from any thread.

        Returns:
            Whether the switch is armed: false once it has fired or been disarmed.
        """
        now = _clock()
        if now - self._last_beat > self._timeout:  # such as after the process was stopped
            self._want("fire")
        self._last_beat = now
        return self._wanted == "watch" and not self.fired

    def disarm(self) -> Awaitable[None]:
        """Say that the strategy has ended well: the switch will not fire any more.

        Returns:
            What may be awaited until a venue's own switch is disarmed as well. Leaving the block
            waits for it anyhow.
        """
        self._want("disarm")
        return _Ended(self._ended)

    async def __aenter__(self) -> Self:
        if self._loop is not None or self._armed.done():
            raise ConfigurationError("a switch is entered once")
        check_scopes(self._targets, proven_within=self._cancel_timeout)
        self._last_beat = _clock()
        self._native = [each for each in self._targets if _has_switch(each, self._timeout)]
        thread = threading.Thread(target=self._run, name="masscancel-switch")
        thread.start()
        try:
            await warm_up(self._targets)
            await asyncio.wrap_future(self._armed)
        except BaseException:
            self._want("disarm")
            await run_to_end(self._wait())
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._want("fire")
        waited, cancelled = await finish(self._wait())
        waited.result()
        raised = asyncio.CancelledError() if cancelled and exc is None else None
        if self.report is not None and not self.report.all_ok:
            if (onto := exc or raised) is None:
                self.report.raise_for_failures()
            else:
                note_failures(self.report, onto, "the cancel of the switch")
        if raised is not None:
            raise raised

    async def _wait(self) -> None:
        await asyncio.wrap_future(self._ended)

    def _want(self, what: Literal["disarm", "fire"]) -> None:
        if self._wanted != "watch":
            return
        self._wanted = what
        loop, news = self._loop, self._news
        if loop is not None and news is not None and not self._ended.done():
            with suppress(RuntimeError):  # it has ended by itself, this very moment
                loop.call_soon_threadsafe(news.set)

    # In the thread.

    def _run(self) -> None:
        try:
            asyncio.run(self._watch())
        except BaseException as problem:  # it goes to whoever waits
            if self._armed.done():
                log.exception("the dead man's switch has failed")
            else:
                self._armed.set_exception(problem)
        finally:
            self._ended.set_result(None)

    async def _watch(self) -> None:
        async with twins_of(self._targets) as targets:
            native = [target for target in targets if _has_switch(target, self._timeout)]
            renewing: dict[int, asyncio.Task[None]] = {}
            try:
                await warm_up(targets)  # the thread has connections of its own
                await self._arm(native)
                self._news, self._loop = asyncio.Event(), asyncio.get_running_loop()
                self._last_beat = _clock()
                self._armed.set_result(None)
                while self._wanted == "watch" and (left := self._left()) > 0:
                    await self._sleep(min(left, self._timeout / RENEWALS) if native else left)
                    fresh = self._wanted == "watch" and self._left() > 0
                    for target in native if fresh else ():  # a sick one holds no other up
                        before = renewing.get(id(target))
                        if before is None or before.done():
                            # Not waited for: it must not hold the firing up.
                            renewal = self._try(self._renew(target))
                            renewing[id(target)] = asyncio.create_task(renewal)
                if self._wanted != "disarm":
                    await self._fire(targets)
            finally:
                if renewing:  # arriving after the disarming, one would arm it anew
                    await asyncio.wait(renewing.values())
                failed = (
                    {id(outcome.target) for outcome in self.report.failed} if self.report else ()
                )
                disarmed = [target for target in native if id(target) not in failed]
                await self._disarm(disarmed)  # elsewhere, the venue's own is all that is left

    async def _disarm(self, native: list[Target]) -> None:
        """Disarm the venue's own switches, and outlast every renewal that may still arrive."""
        until = _clock() + _OUTLAST
        while native:
            off = [self._try(self._set(target, 0, self._cancel_timeout)) for target in native]
            await asyncio.gather(*off)
            left = self._renewals.unresolved_for()
            if left <= 0:
                return
            if _clock() + left > until:
                log.warning(
                    "the venue's own dead man's switch may be armed again by a renewal that has "
                    "not been answered: disarm it before the next session"
                )
                return
            await asyncio.sleep(left)

    def _left(self) -> float:
        return self._last_beat + self._timeout - _clock()

    async def _sleep(self, seconds: float) -> None:
        assert self._news is not None  # noqa: S101  # for the type checker: this is its loop
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _arm(self, native: list[Target]) -> None:
        """Arm the venue's own switches, each once; the first failure is raised after that."""
        armed = await asyncio.gather(*map(self._renew, native), return_exceptions=True)
        for result in armed:
            if isinstance(result, BaseException):
                raise result

    async def _renew(self, target: Target) -> None:
        """Have a venue's own switch fire when ours does, in whole seconds, rounded up.

        Later or earlier where the venue's takes no such time: it is renewed long before.
        """
        client: Any = target.client  # a Twinned, as was checked
        least, most = client.venue.abilities[target.account_category].switch_seconds
        seconds = min(max(math.ceil(self._left()), least), most)
        await self._set(target, seconds * 1000, self._timeout)

    async def _set(self, target: Target, timeout_ms: int, timeout: float) -> None:
        client: Any = target.client  # a Twinned, as was checked
        await client.set_switch(
            target.account_category,
            target.symbol,
            timeout_ms=timeout_ms,
            timeout=timeout,
            gate=self._renewals,
        )

    async def _try(self, work: Awaitable[None]) -> None:
        try:
            await work
        except MassCancelError as error:
            log.warning("the venue's own dead man's switch: %s", error)

    async def _fire(self, targets: list[Target]) -> None:
        self.fired = True
        events = targets[0].client.pool.events  # type: ignore[attr-defined]  # a Twinned
        silent_for = _clock() - self._last_beat
        if events.active:
            named = tuple(map(str, self._targets))
            events.publish(SwitchFired(targets=named, silent_for=silent_for))
        why = f"the dead man's switch: {silent_for:.1f} s of silence"
        with killing(why, what=in_words(targets)):
            self.report = await cancel_many(
                targets, confirm=True, timeout=self._cancel_timeout, gate=self._gate
            )
        if self._on_fire is not None:
            try:
                self._on_fire(self.report)
            except Exception:
                log.exception("on_fire has failed")


class _Ended:
    """May be awaited, by any number, or not at all."""

    def __init__(self, ended: Future[None]) -> None:
        self._ended = ended

    def __await__(self) -> Generator[Any, None, None]:
        return asyncio.wrap_future(self._ended).__await__()


def _has_switch(target: Target, timeout: float) -> bool:
    """Whether the venue has a switch with exactly the target's scope, that waits for so long."""
    client: Any = target.client  # a Twinned, as was checked
    abilities = client.venue.abilities.get(target.account_category)
    if abilities is None or timeout > abilities.switch_seconds[1]:
        return False
    scope = "account" if target.symbol is None else "symbol"
    return abilities.switch in (scope, "both")
