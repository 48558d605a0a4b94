"""AscendEX Pro (formerly BitMax).

Source: the exchange's public API documents, ``ascendex/ascendex-pro-api`` ("Cancel All Orders",
"Authenticate a RESTful Request", "Error Codes") and ``ascendex/ascendex-futures-pro-api-v2``. The
live shapes of the acknowledgement are those that ccxt's maintainers published (pull request 22926).

The exchange has closed. There are no default hosts: its names may change hands.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Self, TypeVar
from urllib.parse import quote

import msgspec
from msgspec.structs import force_setattr, replace

from masscancel.errors import ConfigurationError, ScopeError
from masscancel.models import Ack, OpenOrder, OrderState, OrderUpdate
from masscancel.venue import (
    LISTING,
    Abilities,
    Call,
    Flow,
    Probe,
    Saying,
    StreamDialect,
    ask,
    check_origin,
    every,
)
from masscancel.venues.ascendex.stream import AscendEXStream, encode_cancel_all
from masscancel.venues.ascendex.wire import (
    WINDOW_MS,
    decode_account_group,
    decode_ack,
    decode_clock,
    decode_open_orders,
    decode_order_states,
    sign,
)

__all__ = ["AscendEX"]

T = TypeVar("T")

_SYMBOLS: Final[Mapping[str, re.Pattern[str]]] = {
    "cash": re.compile(r"[A-Z0-9$][A-Z0-9$._]{0,31}/[A-Z0-9][A-Z0-9._]{0,31}"),
    "margin": re.compile(r"[A-Z0-9$][A-Z0-9$._]{0,31}/[A-Z0-9][A-Z0-9._]{0,31}"),
    "futures": re.compile(r"[A-Z0-9$][A-Z0-9$._]{0,31}-PERP"),
}
_EXAMPLES: Final[Mapping[str, str]] = {
    "cash": "BTC/USDT",
    "margin": "BTC/USDT",
    "futures": "BTC-PERP",
}
#: How many orders are asked about at once.
_STATUS_IDS: Final = 20
_REQUEST_ID: Final = re.compile(r"\w[\w\-]{0,30}\w", re.ASCII)


class AscendEX(msgspec.Struct, frozen=True, kw_only=True):
    """AscendEX Pro: where it is, and which account group is spoken for.

    Args:
        rest_url: the origin of its REST side, such as ``https://ascendex.com``.
        stream_url: the origin of its websocket side, such as ``wss://ascendex.com``.
        account_group: the group in the URL path. Without it, the client asks the venue's account
            info for it when it is entered.

    Raises:
        ConfigurationError: a URL is not an origin, or would send keys in clear text to another
            machine; the group is not a non-negative integer.
    """

    name: ClassVar[str] = "ascendex"
    abilities: ClassVar[Mapping[str, Abilities]] = {
        category: Abilities(
            whole_account="one call",
            one_symbol="one call",
            ack="received",
            echoes_id=category != "futures",
            stop_orders=True,
            stream=True,
            switch=None,
        )
        for category in ("cash", "margin", "futures")
    }

    rest_url: str
    stream_url: str
    account_group: int | None = None

    def __post_init__(self) -> None:
        rest_url = check_origin(self.rest_url, name="rest_url", scheme="http")
        stream_url = check_origin(self.stream_url, name="stream_url", scheme="ws")
        force_setattr(self, "rest_url", rest_url)
        force_setattr(self, "stream_url", stream_url)
        group: object = self.account_group
        if group is not None and (
            not isinstance(group, int) or isinstance(group, bool) or group < 0
        ):
            raise ConfigurationError("account_group must be a non-negative integer, or None")

    def ready(self) -> bool:
        """Whether the account group is known."""
        return self.account_group is not None

    def prepare(self) -> Flow[Self]:
        """Find the account group out: ``GET /api/pro/v1/info``."""
        call = self._call("GET", "/api/pro/v1/info", "info", decode_account_group)
        group = yield from ask(call)
        return replace(self, account_group=group)

    def origin(self, account_category: str) -> str:
        """One origin serves every category."""
        check_scope(account_category, None)
        return self.rest_url

    def probe(self, origin: str) -> Probe:
        """``GET /api/pro/v1/exchange-info``."""
        path = "/api/pro/v1/exchange-info?requestTime={now_ms}"
        return Probe(origin=origin, path=path, decode=decode_clock)

    def cancel_all(
        self, account_category: str, symbol: str | None, request_id: str | None
    ) -> Flow[Ack]:
        """``DELETE <group>/api/pro/v1/{category}/order/all``; futures have a path of their own."""
        check_scope(account_category, symbol)
        _check_request_id(request_id)
        path, api_path = self._order_path(account_category, "all")
        body = {} if request_id is None else {"id": request_id}
        if symbol is not None:
            body["symbol"] = symbol
        call = self._call(
            "DELETE",
            path,
            api_path,
            partial(
                decode_ack,
                account_category=account_category,
                symbol=symbol or "",
                request_id=request_id,
            ),
            body=msgspec.json.encode(body),
            acts=True,
            saying=Saying(
                account_category=account_category,
                symbol=symbol or "",
                request_id=request_id or "",
                encode=partial(encode_cancel_all, account_category, symbol, request_id),
                lifetime_ms=WINDOW_MS,
            ),
        )
        return (yield from ask(call))

    def open_orders(self, account_category: str, symbol: str | None) -> Flow[list[OpenOrder]]:
        """``GET <group>/api/pro/v1/{category}/order/open``: one listing, not paged."""
        check_scope(account_category, symbol)
        path, api_path = self._order_path(account_category, "open")
        if symbol is not None:
            path += f"?symbol={quote(symbol, safe='')}"
        decode = partial(decode_open_orders, account_category=account_category, symbol=symbol)
        return (yield from ask(self._call("GET", path, api_path, decode, max_reply=LISTING)))

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """``GET <group>/api/pro/v1/{category}/order/status``, a few ids at a time."""
        path, api_path = self._order_path(account_category, "status")
        ids = [quote(order.order_id, safe="") for order in orders]
        calls = [
            self._call(
                "GET",
                f"{path}?orderId={','.join(ids[start : start + _STATUS_IDS])}",
                api_path,
                partial(decode_order_states, account_category=account_category),
                max_reply=LISTING,
            )
            for start in range(0, len(ids), _STATUS_IDS)
        ]
        states: dict[str, OrderState] = {}
        for some in every((yield calls)):
            states.update(some)
        return states

    def stream(self, account_category: str) -> StreamDialect:
        """v1 for cash and margin, v2 for futures."""
        check_scope(account_category, None)
        version, api_path = (
            ("v2", "v2/stream") if account_category == "futures" else ("v1", "stream")
        )
        return AscendEXStream(
            url=f"{self.stream_url}/{self._group()}/api/pro/{version}/stream",
            api_path=api_path,
            clock_origin=self.rest_url,
        )

    def switch(
        self,
        account_category: str,
        symbol: str | None,
        timeout_ms: int,  # noqa: ARG002  # what it would be does not matter
    ) -> Flow[int | None]:
        """The venue has no dead man's switch.

        Raises:
            ScopeError: always.
        """
        check_scope(account_category, symbol)
        raise ScopeError("AscendEX has no dead man's switch of its own")
        yield

    def _order_path(self, account_category: str, what: str) -> tuple[str, str]:
        """The URL path and the api-path that is signed, which is not the same."""
        root = f"/{self._group()}/api/pro"
        if account_category == "futures":
            api_path = f"v2/futures/order/{what}"
            return f"{root}/{api_path}", api_path
        return f"{root}/v1/{account_category}/order/{what}", f"order/{what}"

    def _group(self) -> int:
        if self.account_group is None:
            raise ConfigurationError("the account group is not known: enter the client first")
        return self.account_group

    def _call(
        self,
        method: str,
        path: str,
        api_path: str,
        decode: Callable[..., T],
        *,
        acts: bool = False,
        **more: Any,
    ) -> Call[T]:
        return Call(
            method=method,
            origin=self.rest_url,
            path=path,
            sign=partial(sign, api_path=api_path),
            decode=decode,
            acts=acts,
            **more,
        )


def check_scope(account_category: str, symbol: str | None) -> None:
    """Refuse what the venue can't scope to, before it gets near a URL.

    Raises:
        ScopeError: no such category, or nothing that is a symbol of it.
    """
    pattern = _SYMBOLS.get(account_category) if isinstance(account_category, str) else None
    if pattern is None:
        raise ScopeError(
            f"no account category {account_category!r} on AscendEX; there are: "
            + ", ".join(AscendEX.abilities)
        )
    if symbol is not None and not (isinstance(symbol, str) and pattern.fullmatch(symbol)):
        raise ScopeError(
            f"{symbol!r} is not a {account_category} symbol of AscendEX, which look like "
            f"{_EXAMPLES[account_category]}; None means all"
        )


def _check_request_id(request_id: object) -> None:
    if request_id is not None and not (
        isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id)
    ):
        raise ConfigurationError(
            f"request_id {request_id!r} must be 2 to 32 letters, digits, _ and -, "
            "with no - at either end"
        )
