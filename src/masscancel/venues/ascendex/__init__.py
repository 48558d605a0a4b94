"""AscendEX Pro (formerly BitMax).

Source: the exchange's public API documents, ``ascendex/ascendex-pro-api`` and, for futures,
``ascendex/ascendex-futures-pro-api-v2``.

The exchange has closed. There are no default hosts: its names may change hands.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Self, TypeVar
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from masscancel.calls import LISTING, Call, Flow, Probe, Reply, Scope, Slices, Stamp, StreamMessage
from masscancel.errors import ConfigurationError
from masscancel.models import Ack, KeyInfo, OpenOrder, OrderState, OrderUpdate, Permission
from masscancel.venues.ascendex.stream import AscendEXStream, encode_cancel_all
from masscancel.venues.ascendex.wire import (
    WINDOW_MS,
    decode_account_group,
    decode_ack,
    decode_clock,
    decode_key,
    decode_open_orders,
    decode_order_states,
    decode_tried,
    sign,
    sign_timed,
)
from masscancel.venues.base import Abilities, Symbols, Venue
from masscancel.venues.toolkit import ask, batches, every, is_whole, merged

__all__ = ["AscendEX"]

T = TypeVar("T")

_PAIRS: Final = Symbols(
    re.compile(r"[A-Z0-9$][A-Z0-9$._]{0,31}/[A-Z0-9][A-Z0-9._]{0,31}"), "BTC/USDT"
)
_CONTRACTS: Final = Symbols(re.compile(r"[A-Z0-9$][A-Z0-9$._]{0,31}-PERP"), "BTC-PERP")
#: How many orders are asked about at once.
_STATUS_IDS: Final = 20
_REQUEST_ID: Final = re.compile(r"\w[\w\-]{0,30}\w", re.ASCII)


class AscendEX(Venue, frozen=True, kw_only=True):
    """AscendEX Pro: where it is, and which account group is spoken for.

    The documents name no rates for REST; of those for a websocket (8,000 cancel-alls a minute) no
    account comes near.

    Args:
        rest_url: the origin of its REST side, such as ``https://ascendex.com``.
        stream_url: the origin of its websocket side, such as ``wss://ascendex.com``.
        account_group: the group in the URL path. Without it, the client asks the venue's account
            info for it when it is entered.

    Raises:
        ConfigurationError: a URL is missing, is no origin, or would send keys in clear text to
            another machine; the group is not a non-negative integer.
    """

    name: ClassVar[str] = "ascendex"
    title: ClassVar[str] = "AscendEX"
    abilities: ClassVar[Mapping[str, Abilities]] = {
        category: Abilities(
            symbols=symbols,
            whole_account="one call",
            one_symbol="one call",
            ack="received",
            echoes_id=category != "futures",
            stream=True,
        )
        for category, symbols in {"cash": _PAIRS, "margin": _PAIRS, "futures": _CONTRACTS}.items()
    }

    rest_url: str = ""
    stream_url: str = ""
    account_group: int | None = None

    def __post_init__(self) -> None:
        if not (self.rest_url and self.stream_url):
            raise ConfigurationError(
                "AscendEX closed in mid-2026 and has no default hosts, since its names may change "
                "hands: give rest_url and stream_url"
            )
        super().__post_init__()
        if self.account_group is not None and not is_whole(self.account_group, 0, 10**9 - 1):
            raise ConfigurationError("account_group must be a non-negative integer, or None")

    def ready(self) -> bool:
        """Whether the account group is known."""
        return self.account_group is not None

    def prepare(self, categories: Sequence[str]) -> Flow[Self]:
        """Find the account group out: ``GET /api/pro/v1/info``."""
        del categories  # one group has them all
        call = self._call("GET", "/api/pro/v1/info", "info", decode_account_group)
        return replace(self, account_group=(yield from ask(call)))

    def origin(self, account_category: str) -> str:
        """One origin serves every category."""
        self.ability(account_category)
        return self.rest_url

    def probe(self, origin: str) -> Probe:
        """``GET /api/pro/v1/exchange-info``."""
        path = "/api/pro/v1/exchange-info?requestTime={now_ms}"
        return Probe(origin=origin, path=path, decode=decode_clock)

    def cancel_all(self, scope: Scope, request_id: str | None) -> Flow[Ack]:
        """``DELETE <group>/api/pro/v1/{category}/order/all``; futures have a path of their own.

        Raises:
            ConfigurationError: the venue would not take the request's id.
        """
        if request_id is not None and not (
            isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id)
        ):
            raise ConfigurationError(
                f"request_id {request_id!r} must be 2 to 32 letters, digits, _ and -, "
                "with no - at either end"
            )
        path, api_path = self._order_path(scope, "all")
        body = {} if request_id is None else {"id": request_id}
        if scope.symbol is not None:
            body["symbol"] = scope.symbol
        call: Call[Ack] = self._call(
            "DELETE",
            path,
            api_path,
            partial(decode_ack, scope=scope, request_id=request_id),
            body=msgspec.json.encode(body),
            cancels=True,
            on_stream=StreamMessage(
                scope=scope,
                request_id=request_id or "",
                encode=partial(encode_cancel_all, scope, request_id),
                lifetime_ms=WINDOW_MS,
            ),
        )
        return (yield from ask(call))

    def open_orders(self, scope: Scope) -> Flow[list[OpenOrder]]:
        """``GET <group>/api/pro/v1/{category}/order/open``: one listing, not paged."""
        path, api_path = self._order_path(scope, "open")
        if scope.symbol is not None:
            path += f"?symbol={quote(scope.symbol, safe='')}"
        decode = partial(decode_open_orders, scope=scope)
        return (yield from ask(self._call("GET", path, api_path, decode, max_reply=LISTING)))

    def order_states(
        self, account_category: str, orders: Sequence[OpenOrder | OrderUpdate]
    ) -> Flow[Mapping[str, OrderState]]:
        """``GET <group>/api/pro/v1/{category}/order/status``, a few ids at a time."""
        path, api_path = self._order_path(Scope(account_category), "status")
        decode = partial(decode_order_states, account_category=account_category)
        calls = [
            self._call("GET", f"{path}?orderId={','.join(ids)}", api_path, decode)
            for ids in batches([quote(order.order_id, safe="") for order in orders], _STATUS_IDS)
        ]
        return merged(every((yield calls)))

    def key_info(self, categories: Sequence[str]) -> Flow[KeyInfo]:
        """``GET /api/pro/v1/info``: whether the key may trade, in every category alike."""
        for category in categories:
            self.ability(category)
        decode = partial(decode_key, categories=tuple(categories))
        call: Call[KeyInfo] = self._call("GET", "/api/pro/v1/info", "info", decode)
        return (yield from ask(call))

    def try_cancel(self, account_category: str, token: str) -> Flow[Permission]:
        """``DELETE .../order``: "non-open order" to a key that may.

        What cancels everything has a path of its own, which is longer.
        """
        symbol = self.ability(account_category).symbols.example
        path, api_path = self._order_path(Scope(account_category), "")
        call: Call[Permission] = self._call(
            "DELETE",
            path.rstrip("/"),
            api_path.rstrip("/"),
            decode_tried,
        )
        order = {"orderId": token, "symbol": symbol}
        api_path = api_path.rstrip("/")
        call = replace(call, sign=partial(sign_timed, api_path=api_path, body=order))
        return (yield from ask(call))

    def stream(self, account_category: str) -> AscendEXStream:
        """v1 for cash and margin, v2 for futures."""
        self.ability(account_category)
        is_v2 = account_category == "futures"
        return AscendEXStream(
            url=f"{self.stream_url}/{self._group()}/api/pro/{'v2' if is_v2 else 'v1'}/stream",
            api_path="v2/stream" if is_v2 else "stream",
            clock_origin=self.rest_url,
        )

    def _order_path(self, scope: Scope, what: str) -> tuple[str, str]:
        """The URL path and the api-path that is signed, which is not the same."""
        root = f"/{self._group()}/api/pro"
        if scope.account_category == "futures":
            api_path = f"v2/futures/order/{what}"
            return f"{root}/{api_path}", api_path
        return f"{root}/v1/{scope.account_category}/order/{what}", f"order/{what}"

    def _group(self) -> int:
        if self.account_group is None:
            raise ConfigurationError("the account group is not known: enter the client first")
        return self.account_group

    def _call(
        self,
        method: str,
        path: str,
        api_path: str,
        decode: Callable[[Reply, Stamp], T | Slices[T]],
        *,
        cancels: bool = False,
        **more: Any,
    ) -> Call[T]:
        return Call(
            method=method,
            origin=self.rest_url,
            path=path,
            sign=partial(sign, api_path=api_path),
            decode=decode,
            cancels=cancels,
            **more,
        )
