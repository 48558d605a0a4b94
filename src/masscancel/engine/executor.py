"""The executor: takes a venue's flow to its end, one step after another, its parts side by side."""

import asyncio
from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from masscancel.calls import Call, Flow
from masscancel.engine.account import Account
from masscancel.engine.execution import Execution
from masscancel.engine.operation import Operation
from masscancel.errors import (
    DeadlineExceeded,
    MassCancelError,
    NotSent,
    OutcomeUnknown,
    UnansweredInTime,
)

__all__ = ["Executor"]

T = TypeVar("T")


class Executor:
    """Executes flows for one account.

    Args:
        account: whose flows these are.
    """

    def __init__(self, account: Account) -> None:
        self.account = account

    async def run(self, flow: Flow[T], operation: Operation) -> T:
        """Take a flow to its end. Its error, if any, learns here what had been tried."""
        try:
            return await self._drive(flow, operation)
        except MassCancelError as error:
            # The frames of a flow hold its results, and so the error itself: a ring of garbage.
            error.__traceback__ = None
            operation.describe(error)
            if isinstance(error, NotSent) and error.may_have_executed:
                told = _sent_in_part(error)
                operation.describe(told)
                raise told from error
            raise

    async def _drive(self, flow: Flow[T], operation: Operation) -> T:
        try:
            parts = next(flow)
            while True:
                if len(parts) == 1 and isinstance(parts[0], Call):
                    results: Sequence[Any] = (await self._one(parts[0], operation),)
                else:
                    results = await self._side_by_side(parts, operation)
                parts = flow.send(results)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            flow.close()

    async def _one(self, call: Call[T], operation: Operation) -> T | MassCancelError:
        """The result of a single call."""
        execution = Execution(self.account, call, operation)
        try:
            execution.begin()
            result: T | MassCancelError = await execution.result()
        except BaseException:
            execution.abandon()
            raise
        return result

    async def _side_by_side(
        self, parts: Sequence[Call[Any] | Flow[Any]], operation: Operation
    ) -> Sequence[Any]:
        """The result of each part, in their order; the first requests leave in this order, too."""
        started: list[Execution | asyncio.Task[Any]] = []
        try:
            for part in parts:
                if isinstance(part, Generator):
                    flow = self._drive_to_result(part, operation)
                    started.append(self.account.pool.loop.create_task(flow))
                else:
                    execution = Execution(self.account, part, operation)
                    started.append(execution)
                    execution.begin()
            return [
                await (each if isinstance(each, asyncio.Task) else each.result())
                for each in started
            ]
        except BaseException:
            await _stop(started)
            raise

    async def _drive_to_result(self, flow: Flow[T], operation: Operation) -> T | MassCancelError:
        try:
            return await self._drive(flow, operation)
        except MassCancelError as error:
            return error


async def _stop(started: "Sequence[Execution | asyncio.Task[Any]]") -> None:
    """End what was going on side by side, since nobody waits for it any more."""
    tasks = [each for each in started if isinstance(each, asyncio.Task)]
    for task in tasks:
        task.cancel()
    for each in started:
        if isinstance(each, Execution):
            each.abandon()
    if tasks:
        await asyncio.wait(tasks)


def _sent_in_part(error: NotSent) -> OutcomeUnknown:
    """Make the error of a call of which one part was not sent, while others were."""
    kind = UnansweredInTime if isinstance(error, DeadlineExceeded) else OutcomeUnknown
    told = kind(f"a part was not sent: {error.summary}")
    for note in getattr(error, "__notes__", ()):
        told.add_note(note)
    return told
