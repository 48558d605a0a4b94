"""The fault matrix, REST: each row as a case that a test, a script or a search may play."""

from __future__ import annotations

from beyond import BEYOND_THE_PAGE
from masscancel import (
    AuthenticationError,
    InvalidRequest,
    NotSent,
    OutcomeUnknown,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from masscancel.sim import (
    Answer,
    Drop,
    DuplicateReply,
    Hang,
    HugeBody,
    Redirect,
    Trickle,
    Truncate,
    TwoContentLengths,
)
from peers import ack_bytes, free_port, frozen_port, full_backlog, http
from proxy import drop, reset_after, trickle
from stages import (
    EITHER,
    HTML,
    REFUSED,
    RETRIED,
    Case,
    acks,
    bomb,
    drips,
    exchange,
    expired,
    floods,
    json_is,
    lost,
    names,
    nobody,
    page,
    peer,
    proxied,
    says,
    serving,
    trusting,
)

THE_PAGE = [
    *(lost(e, r, u) for e in (True, False) for r in (True, False) for u in (True, False)),
    *(
        Case(
            name=f"every pooled connection stale, by {how}",
            row="every pooled connection is stale",
            stage=exchange(stale=stale),
            sends=(1, 2),
            persistent=True,
        )
        for stale, how in ((7, "RST"), (8, "FIN"))
    ),
    Case(
        name="executed, every reply lost",
        row="request executed, response lost",
        stage=exchange(Drop(executed=True), times=None),
        error=OutcomeUnknown,
        sends=RETRIED,
        timeout=0.2,
        persistent=True,
    ),
    Case(
        name="executed, no reply",
        row="request executed, response lost",
        stage=exchange(Hang(executed=True), times=None),
        error=OutcomeUnknown,
        timeout=0.2,
        persistent=True,
    ),
    Case(
        name="black hole under every pooled connection",
        row="black hole",
        stage=proxied(lambda proxy: proxy.black_hole(), used=4),
        sends=(1,),
        persistent=True,
    ),
    Case(
        name="black hole for good",
        row="black hole",
        stage=proxied(lambda proxy: setattr(proxy, "up", drop)),
        error=OutcomeUnknown,
        sends=(0,),
        timeout=0.2,
        persistent=True,
    ),
    Case(
        name="black hole on the way back",
        row="black hole",
        stage=proxied(lambda proxy: setattr(proxy, "down", drop)),
        error=OutcomeUnknown,
        timeout=0.2,
        persistent=True,
    ),
    Case(
        name="connection refused",
        row="connection refused",
        stage=nobody(free_port),
        error=NotSent,
        unknown=False,
        sends=(0,),
        timeout=0.2,
        persistent=True,
    ),
    Case(
        name="connect hangs",
        row="connect hangs",
        stage=nobody(full_backlog),
        error=NotSent,
        unknown=False,
        sends=(0,),
        timeout=0.2,
        persistent=True,
    ),
    *(
        Case(
            name=f"name service: {mode}",
            row="name does not resolve; resolver hangs",
            stage=names(mode),
            error=NotSent,
            unknown=False,
            sends=(0,),
            timeout=0.2,
            persistent=True,
        )
        for mode in ("fails", "hangs", "label")
    ),
    Case(
        name="TLS handshake stalls",
        row="TLS handshake stalls",
        stage=nobody(frozen_port, "https"),
        error=NotSent,
        unknown=False,
        sends=(0,),
        timeout=0.2,
        persistent=True,
    ),
    Case(
        name="certificate of another host",
        row="certificate wrong",
        stage=peer(
            lambda seen, writer: writer.write(http(ack_bytes(seen))),
            tls=lambda: (serving("elsewhere.test"), trusting()),
        ),
        error=NotSent,
        unknown=False,
        sends=(0,),
    ),
    Case(
        name="certificate expired",
        row="certificate expired",
        stage=peer(
            lambda seen, writer: writer.write(http(ack_bytes(seen))),
            tls=lambda: (expired(), trusting()),
        ),
        error=NotSent,
        unknown=False,
        sends=(0,),
    ),
    Case(
        name="certificate of an unknown authority",
        row="certificate wrong",
        stage=peer(
            lambda seen, writer: writer.write(http(ack_bytes(seen))),
            tls=lambda: (serving("127.0.0.1"), None),
        ),
        error=NotSent,
        unknown=False,
        sends=(0,),
    ),
    Case(
        name="reply trickles for ever",
        row="reply trickles",
        stage=exchange(Trickle(interval=0.001, forever=True), times=None),
        error=EITHER,
        timeout=0.2,
    ),
    Case(
        name="reply trickles and stops half way",
        row="reply stops half way",
        stage=peer(drips(lambda seen: [bytes([b]) for b in http(ack_bytes(seen))[:99]])),
        error=OutcomeUnknown,
        timeout=0.2,
    ),
    Case(
        name="reply trickles, and ends in time",
        row="reply trickles",
        stage=proxied(lambda proxy: setattr(proxy, "down", trickle(0))),
        persistent=True,
    ),
    Case(
        name="reply is cut short by FIN",
        row="reply is cut short",
        stage=exchange(Truncate(), times=None),
        error=OutcomeUnknown,
    ),
    Case(
        name="reply is cut short by RST",
        row="reply is cut short",
        stage=proxied(lambda proxy: setattr(proxy, "down", reset_after(150))),
        error=OutcomeUnknown,
    ),
    Case(
        name="two Content-Lengths",
        row="two Content-Lengths",
        stage=exchange(TwoContentLengths(), times=None),
        error=ProtocolError,
    ),
    Case(
        name="429 without Retry-After, then an Ack",
        row="HTTP 429",
        stage=exchange(Answer(429, b"{}")),
        sends=(2,),
        persistent=True,
    ),
    Case(
        name="429 with Retry-After beyond the deadline",
        row="HTTP 429",
        stage=exchange(Answer(429, HTML, (("Retry-After", "30"),)), times=None),
        error=RateLimited,
        unknown=False,
        persistent=True,
    ),
    Case(
        name="429 with a Retry-After that is nonsense",
        row="HTTP 429",
        stage=exchange(Answer(429, b"{}", (("Retry-After", "Mon, 99 Foo 0001 -1"),)), times=None),
        error=RateLimited,
        unknown=False,
    ),
    *(
        Case(
            name=f"{status[:3]} in the venue's own words",
            row="403",
            stage=says(http(REFUSED, status=status)),
            error=PermissionDenied,
            unknown=False,
            persistent=True,
        )
        for status in ("401 Unauthorized", "403 Forbidden", "404 Not Found")
    ),
    *(
        Case(
            name=f"{status[:3]} with {'a page' if body else 'nothing'}",
            row="403",
            stage=says(http(body, status=status)),
            error=(VenueUnavailable, OutcomeUnknown),  # as for any page of a balancer
            sends=RETRIED,
            timeout=0.2,
            persistent=True,
        )
        for status in ("401 Unauthorized", "403 Forbidden", "404 Not Found")
        for body in (HTML, b"")
    ),
    *(
        Case(
            name=f"HTML {status}",
            row="HTML 502, 520, 524",
            stage=page(f"{status} Oops"),
            error=(VenueUnavailable, OutcomeUnknown),  # the latter if the last was under way
            sends=RETRIED,
            timeout=0.2,
            persistent=True,
        )
        for status in (500, 502, 503, 520, 524, 599)
    ),
    *(
        Case(
            name=f"{status} once, executed, then an Ack",
            row="HTML 502, 520, 524",
            stage=exchange(Answer(status, HTML, executed=True)),
            sends=(2,),
            persistent=True,
        )
        for status in (502, 520, 524)
    ),
    *(
        Case(
            name=f"200 with code {code}",
            row="HTTP 200 with code ≠ 0",
            stage=json_is(f'{{"code":{code},"reason":"NO","message":"no"}}'),
            error=error,
            unknown=unknown,
            persistent=True,
        )
        for code, error, unknown in (
            (200001, AuthenticationError, False),
            (200015, PermissionDenied, False),
            (100001, InvalidRequest, False),
            (424242, VenueError, True),  # nobody has said what this one means
            (-1, VenueError, True),
        )
    ),
    Case(
        name="status Err at code 0",
        row='status: "Err"',
        stage=acks(status="Err", info={"code": 300001, "reason": "INVALID_PRICE"}),
        error=VenueError,
        unknown=False,
        persistent=True,
    ),
    Case(
        name="5 MiB",
        row="reply is huge",
        stage=exchange(HugeBody(), times=None),
        error=ProtocolError,
    ),
    Case(
        name="5 MiB in chunks",
        row="reply is huge",
        stage=peer(
            floods(
                b"1000\r\n" + b" " * 4096 + b"\r\n",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            )
        ),
        error=ProtocolError,
    ),
    Case(
        name="compressed bomb",
        row="a compressed bomb",
        stage=says(lambda _: http(bomb(), "Content-Encoding: gzip")),
        error=ProtocolError,
    ),
    *(
        Case(
            name=f"redirect {status}",
            row="redirect",
            stage=exchange(Redirect("http://127.0.0.1:9/steal", status), times=None),
            error=ProtocolError,
        )
        for status in (301, 302, 303, 307, 308)
    ),
    Case(
        name="the reply comes twice",
        row="a response arrives on an idle pooled connection",
        stage=exchange(DuplicateReply()),
        persistent=True,
    ),
]

MATRIX = [*THE_PAGE, *BEYOND_THE_PAGE]
