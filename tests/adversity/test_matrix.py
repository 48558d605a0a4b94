"""Every row of the matrix, played over real sockets and judged by what the other end saw."""

import gc

import pytest

from masscancel import RetryPolicy
from matrix import MATRIX
from stages import ONCE, Case, call, judge, ours

pytestmark = pytest.mark.unmeasured

#: The first case of each row.
GIST = [*{case.row: case for case in reversed(MATRIX)}.values()][::-1]


@pytest.mark.asyncio
@pytest.mark.parametrize("case", GIST, ids=str)
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


@pytest.mark.adversity
@pytest.mark.asyncio
@pytest.mark.parametrize("case", [case for case in MATRIX if case not in GIST], ids=str)
async def test_every_other_case(case: Case) -> None:
    """Likewise, all that a row may look like."""
    await test_row(case)
