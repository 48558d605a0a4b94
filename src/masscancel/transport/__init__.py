"""The only floor with sockets: connections, the pool, clocks, limits.

Nothing of aiohttp's session is in the way of a cancel: what patches it can't break or read one.
"""
