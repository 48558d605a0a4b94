"""Every row of the matrix, played over real sockets and judged by what the other end saw."""

import gc

import pytest

from masscancel import RetryPolicy
from matrix import MATRIX
from stages import ONCE, Case, call, judge, ours


@pytest.mark.asyncio
@pytest.mark.parametrize("case", MATRIX, ids=str)
async def test_row(case: Case) -> None:
    """The row named by the parameter: the right outcome, honest, with as many sends as are due."""
    gc.disable()  # what is let go of must be let go of by its owner, not found later
    try:
        async with case.stage(RetryPolicy() if case.persistent else ONCE) as scene:
            result = await call(case, scene)
            assert judge(case, scene, result) == []
            if all(attempt.fate != "open" for attempt in result.attempts):
                assert not scene.in_use()
        assert not ours()
    finally:
        gc.enable()
        gc.collect(0)
