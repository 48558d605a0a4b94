"""One process, from nothing to the first Ack: ``python cold.py ours 40001``. Prints the time.

The time is ``time.monotonic_ns``, which all processes of a machine share on Linux and macOS.
"""

import asyncio
import sys
import time

from common import Where, contender_of


async def main() -> None:
    """Open, call, say when the answer had come."""
    contender = contender_of(sys.argv[1])
    await contender.open(Where(int(sys.argv[2])))
    await contender.call("S0/USDT")
    print(time.monotonic_ns(), flush=True)
    await contender.close()


if __name__ == "__main__":
    asyncio.run(main())
