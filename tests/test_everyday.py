"""Of very many cases, some are played every day, and the others are left to ``make adversity``."""

import pytest

from everyday import leave_to_adversity

pytest_plugins = ["pytester"]

SAMPLES = """
import pytest

@pytest.mark.sample("one", "two.imag")
@pytest.mark.parametrize("one", ["a", "b", "c"])
@pytest.mark.parametrize("two", [1j, 2j])
def test_every_value(one, two): ...

@pytest.mark.sample
@pytest.mark.parametrize("one", ["a", "b"])
def test_first(one): ...

@pytest.mark.sample("another")
@pytest.mark.parametrize("one", ["a", "b"])
def test_nothing_to_choose_by(one): ...

@pytest.mark.parametrize("one", ["a", "b"])
def test_no_sample(one): ...
"""


def test_the_cases_of_every_day(pytester: pytest.Pytester) -> None:
    """Every value that is named is played; what has no sample, or none of the names, is whole."""
    pytester.makeini("[pytest]\nmarkers = sample\n")
    path = pytester.makepyfile(SAMPLES)
    cases, _ = pytester.inline_genitems(path, "-pno:asyncio", "-pno:cov", "-pno:ddtrace")
    leave_to_adversity(cases)
    assert [case.name for case in cases if not case.get_closest_marker("adversity")] == [
        "test_every_value[1j-a]",
        "test_every_value[1j-c]",
        "test_every_value[2j-b]",
        "test_first[a]",
        *(f"test_nothing_to_choose_by[{each}]" for each in "ab"),
        *(f"test_no_sample[{each}]" for each in "ab"),
    ]
    assert len(cases) == 12
