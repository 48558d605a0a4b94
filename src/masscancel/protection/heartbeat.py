"""The heartbeat of a strategy that runs under ``masscancel guard``.

The guard hands the write end of a pipe to the strategy, and says in the environment where it is:
``MASSCANCEL_BEAT_FD`` is its file descriptor, ``MASSCANCEL_BEAT_PIPE`` which pipe that must be, so
that a process further down, which has the variables but not the pipe, does not write into whatever
it has under that number. A strategy in another language beats by writing a byte to the descriptor.
"""

import os
import stat

__all__ = ["beat"]

#: The name of the variable that holds the file descriptor.
FD = "MASSCANCEL_BEAT_FD"
#: The name of the variable that tells the pipe from others: its device and inode.
PIPE = "MASSCANCEL_BEAT_PIPE"


def beat() -> bool:
    """Tell the guard that the strategy is alive. Call it where being stuck would show.

    Takes some microseconds, never blocks and never raises; may be called from any thread, and from
    a process that was forked.

    Returns:
        Whether a guard listens: false without one, and when it has died.
    """
    try:
        descriptor = int(os.environ[FD])
        if not _is_ours(os.fstat(descriptor)):
            return False
        os.set_blocking(descriptor, False)
        os.write(descriptor, b".")
    except BlockingIOError:
        return True  # the pipe is full: the guard has beats left to read
    except (KeyError, ValueError, OverflowError, OSError):
        return False
    return True


def identify(status: os.stat_result) -> str:
    """Make the text that tells a pipe from others."""
    return f"{status.st_dev}:{status.st_ino}"


def _is_ours(status: os.stat_result) -> bool:
    expected = os.environ.get(PIPE)
    return stat.S_ISFIFO(status.st_mode) and expected in (None, identify(status))
