"""The heartbeat: what it does with a guard's pipe, and without one."""

import os
from collections.abc import Iterator

import pytest

from masscancel.protection.heartbeat import FD, PIPE, beat, identify


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A pipe as a guard would make it, told of in the environment."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    monkeypatch.setenv(FD, str(write))
    monkeypatch.setenv(PIPE, identify(os.fstat(write)))
    yield read, write
    for descriptor in (read, write):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_a_beat_arrives(pipe: tuple[int, int]) -> None:
    """One byte each."""
    assert beat()
    assert beat()
    assert os.read(pipe[0], 10) == b".."


def test_without_a_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does nothing, and says so."""
    monkeypatch.delenv(FD, raising=False)
    assert beat() is False


@pytest.mark.parametrize("number", ["", "x", "-1", "99999", str(2**70)])
def test_a_number_that_is_none(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the variable holds, nothing is raised."""
    monkeypatch.setenv(FD, number)
    assert beat() is False


def test_a_full_pipe_does_not_block(pipe: tuple[int, int]) -> None:
    """The guard has beats to read: that is as good as another. The pipe is made non-blocking."""
    read, write = pipe
    while True:
        try:
            os.set_blocking(write, False)
            os.write(write, bytes(65536))
        except BlockingIOError:
            break
    os.set_blocking(write, True)
    assert beat()
    assert os.read(read, 10) == bytes(10)


def test_a_guard_that_has_died(pipe: tuple[int, int]) -> None:
    """Nobody reads: the strategy can know that nobody guards it."""
    os.close(pipe[0])
    assert beat() is False


def test_another_pipe_under_that_number(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process further down has the variables and not the pipe: nobody else's gets a byte."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    monkeypatch.setenv(FD, str(write))
    assert beat() is False
    with pytest.raises(BlockingIOError):
        os.read(read, 1)
    os.close(read)
    os.close(write)


def test_a_file_under_that_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    """Nor does a file, whoever set the variable."""
    monkeypatch.delenv(PIPE, raising=False)
    file = os.open(os.path.join(tmp_path, "orders.db"), os.O_CREAT | os.O_RDWR)  # noqa: PTH118  # a descriptor is what counts
    monkeypatch.setenv(FD, str(file))
    assert beat() is False
    assert os.fstat(file).st_size == 0
    os.close(file)


def test_a_pipe_of_any_supervisor(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The number alone is enough, if a pipe is there."""
    monkeypatch.delenv(PIPE)
    assert beat()
    assert os.read(pipe[0], 10) == b"."
