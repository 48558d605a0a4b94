"""Examine accounts before it matters: what would fail in a kill, and what to do about it.

::

    async with SessionPool() as pool:
        clients = [account.client(pool) for account in Accounts.load()]
        for checkup in await examine_many(clients):
            print(checkup.account, checkup.status)

Nothing is cancelled. With ``probe=True``, where a venue has no way of asking whether a key may
cancel, one order is cancelled that can't exist: see :meth:`~masscancel.Client.try_cancel`.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from masscancel.arguments import check_timeout
from masscancel.calls import Scope
from masscancel.client import Client
from masscancel.doctor.examination import Examination
from masscancel.doctor.findings import Checkup, Finding, Status
from masscancel.doctor.ways import Ways
from masscancel.transport.pool import SessionPool, most_connections

__all__ = ["Checkup", "Finding", "Status", "descriptors", "examine", "examine_many"]


async def examine(
    client: Client[Any],
    *,
    scopes: Iterable[Scope] | None = None,
    probe: bool = False,
    streams: bool = True,
    timeout: float = 10.0,
) -> Checkup:
    """Find out what would fail in a kill of an account; nothing is cancelled.

    Args:
        client: of the account. One that is not entered is entered for it, and left; what entering
            fails with is a finding.
        scopes: what a kill would cancel; ``None`` for all of the client's categories. Of a scope
            that takes many requests to list, one symbol is listed.
        probe: whether to cancel one order that can't exist, where the venue has no way of asking
            whether the key may cancel.
        streams: whether to log in to the streams that the venue has. They stay open.
        timeout: seconds from now, for all of it.

    Raises:
        ConfigurationError: the time limit can't be used.
        ScopeError: the venue has no such scope; nothing was sent.
    """
    chosen = _check_scopes(client, scopes)
    with Ways(check_timeout(timeout)) as ways:
        return await Examination(client, chosen, ways, probe=probe, streams=streams).checkup()


async def examine_many(
    clients: Iterable[Client[Any]],
    *,
    scopes: Mapping[Client[Any], Iterable[Scope]] = MappingProxyType({}),
    probe: bool = False,
    streams: bool = True,
    timeout: float = 10.0,
    on_checkup: Callable[[Checkup], object] | None = None,
) -> list[Checkup]:
    """Examine many accounts at once; what is wrong with one is a row of its own.

    Args:
        clients: of the accounts, such as those of an accounts file. They may share a pool.
        scopes: what a kill would cancel of each; of one that is not in it, all of its categories.
        probe: as for :func:`examine`.
        streams: likewise.
        timeout: seconds from now, for each and for all.
        on_checkup: is called with each when it is done.

    Returns:
        The checkups, in the clients' order.

    Raises:
        ConfigurationError: as :func:`examine`.
        ScopeError: as :func:`examine`.
    """
    every = [(client, _check_scopes(client, scopes.get(client))) for client in clients]

    async def one(client: Client[Any], chosen: Sequence[Scope]) -> Checkup:
        examination = Examination(client, chosen, ways, probe=probe, streams=streams)
        checkup = await examination.checkup()
        if on_checkup is not None:
            on_checkup(checkup)
        return checkup

    with Ways(check_timeout(timeout)) as ways:
        return [*await asyncio.gather(*(one(*each) for each in every))]


def descriptors(pool: SessionPool, cancels: int) -> Finding:
    """Compare the connections that a kill would have open with what this process may open.

    Args:
        pool: an entered pool, by which the accounts have been examined.
        cancels: how many requests the kill would begin with, at least one for each scope.
    """
    wanted, most = pool.connections_open + cancels, most_connections()
    enough = wanted <= most
    return Finding(
        name="descriptors",
        status="ok" if enough else "warning",
        detail=f"{wanted} connections at once, of {most} that this process may open",
        advice=""
        if enough
        else "the others would wait for those: raise the limit of open files (ulimit -n; under "
        "systemd, LimitNOFILE=)",
    )


def _check_scopes(client: Client[Any], scopes: Iterable[Scope] | None) -> tuple[Scope, ...]:
    wanted = map(Scope, client.categories) if scopes is None else scopes
    chosen = tuple(dict.fromkeys(wanted))
    for scope in chosen:
        client.venue.check_scope(scope)
    return chosen
