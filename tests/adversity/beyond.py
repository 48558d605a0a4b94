"""Faults that the page does not list."""

from __future__ import annotations

import time

from masscancel import (
    InvalidRequest,
    NotSent,
    OutcomeUnknown,
    ProtocolError,
    VenueError,
    VenueUnavailable,
)
from masscancel.transport.parser import MOST_INTERIM
from peers import ack_bytes, http, reset
from proxy import finish_after, reset_after
from stages import (
    EITHER,
    HTML,
    Case,
    acks,
    acks_in_http,
    acks_with,
    alerts,
    chunked,
    cut_without_goodbye,
    echoes,
    echoes_in_a_page,
    floods,
    hang_up_in_handshake,
    json_is,
    peer,
    proxied,
    says,
    serving,
    tls_over_plain,
    trusting,
)

EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"

BEYOND_THE_PAGE = [
    Case(name="a true Ack", row="control", stage=acks()),
    Case(
        name="server closes on accept, by FIN",
        row="half-open before the request",
        stage=peer(lambda *_: None, greet=lambda writer: writer.close()),
        error=(OutcomeUnknown, NotSent),
        unknown=None,
        sends=(0, 1),
    ),
    Case(
        name="server closes on accept, by RST",
        row="half-open before the request",
        stage=peer(lambda *_: None, greet=lambda writer: reset(writer.transport)),
        error=(OutcomeUnknown, NotSent),
        unknown=None,
        sends=(0, 1),
    ),
    Case(
        name="server half-closes, and still reads",
        row="half-open before the request",
        stage=peer(lambda *_: None, greet=lambda writer: writer.write_eof()),
        error=(OutcomeUnknown, NotSent),
        unknown=None,
        sends=(0, 1),
    ),
    Case(
        name="the wire breaks in the middle of the request",
        row="FIN or RST on a fresh connection",
        stage=proxied(lambda proxy: setattr(proxy, "up", reset_after(100))),
        error=OutcomeUnknown,
        sends=(0,),
    ),
    Case(
        name="FIN in the middle of the request",
        row="FIN or RST on a fresh connection",
        stage=proxied(lambda proxy: setattr(proxy, "up", finish_after(100))),
        error=OutcomeUnknown,
        sends=(0,),
    ),
    Case(
        name="closes after the status line",
        row="reply is cut short",
        stage=says(b"HTTP/1.1 200 OK\r\n", close=True),
        error=EITHER,
    ),
    Case(
        name="closes exactly after the headers",
        row="reply is cut short",
        stage=says(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n", close=True),
        error=OutcomeUnknown,
    ),
    Case(
        name="closes after headers that announce nothing",
        row="reply is cut short",
        stage=says(b"HTTP/1.1 200 OK\r\n\r\n", close=True),
        error=OutcomeUnknown,
    ),
    Case(
        name="nothing at all, then FIN",
        row="FIN or RST on a fresh connection",
        stage=says(b"", close=True),
        error=OutcomeUnknown,
    ),
    Case(
        name="the Ack of another id",
        row="reply to another request",
        stage=acks(info={"id": "another"}),
        error=ProtocolError,
    ),
    Case(
        name="an Ack from a minute ago",
        row="old timestamp",
        stage=acks(info={"timestamp": int(time.time() * 1000) - 600_000}),
        error=ProtocolError,
    ),
    Case(
        name="the Ack of one symbol",
        row="reply to another request",
        stage=acks(info={"symbol": "BTC/USDT"}),
        error=ProtocolError,
    ),
    Case(
        name="the Ack of another category",
        row="reply to another request",
        stage=acks(ac="MARGIN"),
        error=ProtocolError,
    ),
    Case(
        name="the Ack of an order",
        row="reply to another request",
        stage=acks(action="place-order"),
        error=ProtocolError,
    ),
    *(
        Case(
            name=f"{count} interim replies, then the Ack",
            row="1xx flood",
            stage=says(lambda seen, n=count: EARLY_HINTS * n + http(ack_bytes(seen))),  # type: ignore[misc]
            error=error,
        )
        for count, error in ((MOST_INTERIM, None), (MOST_INTERIM + 1, ProtocolError))
    ),
    Case(
        name="interim replies without end",
        row="1xx flood",
        stage=peer(floods(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)),
        error=EITHER,
        timeout=0.2,
    ),
    Case(
        name="switching protocols",
        row="1xx flood",
        stage=says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n\x00\x00\x00"),
        error=EITHER,
        timeout=0.2,
    ),
    Case(
        name="ten thousand headers",
        row="header flood",
        stage=says(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 10_000 + b"\r\n"),
        error=ProtocolError,
    ),
    Case(
        name="headers without end",
        row="header flood",
        stage=peer(floods(b"X-Header: value\r\n" * 100, b"HTTP/1.1 200 OK\r\n")),
        error=ProtocolError,
    ),
    Case(
        name="one header line without end",
        row="header flood",
        stage=peer(floods(b"x" * 4096, b"HTTP/1.1 200 OK\r\nX-Header: ")),
        error=ProtocolError,
    ),
    Case(
        name="a status line without end",
        row="header flood",
        stage=peer(floods(b"x" * 4096, b"HTTP/1.1 200 ")),
        error=ProtocolError,
    ),
    *(
        Case(
            name=f"{count} large cookies",
            row="header flood",
            stage=says(
                lambda seen, n=count: http(  # type: ignore[misc]
                    ack_bytes(seen), *(f"Set-Cookie: a{i}={'=;' * 2000}" for i in range(n))
                )
            ),
            error=error,
        )
        for count, error in ((16, None), (17, ProtocolError))
    ),
    Case(
        name="junk after the Ack",  # which was whole; the connection ends
        row="pipelined junk",
        stage=says(lambda seen: http(ack_bytes(seen)) + b"\x00\xffjunk\r\n\r\n"),
    ),
    Case(
        name="chunks with extensions and trailers",
        row="chunked trailers",
        stage=says(
            lambda seen: chunked(seen, trailers=b"X-Checksum: 1\r\nX-More: 2\r\n", ext=b";a=b")
        ),
    ),
    Case(
        name="trailers without end",
        row="chunked trailers",
        stage=peer(
            floods(
                b"X-Trailer: value\r\n" * 100,
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
            )
        ),
        error=EITHER,
        timeout=0.3,
    ),
    Case(
        name="a chunk extension without end",
        row="chunked trailers",
        stage=peer(
            floods(b"x" * 4096, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=")
        ),
        error=EITHER,
        timeout=0.3,
    ),
    Case(
        name="a chunk of more bytes than there are numbers",
        row="chunked trailers",
        stage=says(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\n{}"
        ),
        error=ProtocolError,
    ),
    Case(
        name="chunked, and with a length",
        row="two Content-Lengths",
        stage=says(
            lambda seen: chunked(seen).replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n", 1)
        ),
        error=ProtocolError,
    ),
    *(
        Case(
            name=f"Content-Length {length}",
            row="two Content-Lengths",
            stage=acks_in_http(length=length),
            error=ProtocolError,
        )
        for length in ("-1", "1e3", "0x10", "9" * 30, "+5", "5, 5", "")
    ),
    Case(
        name="Content-Length that is too short",
        row="reply is cut short",
        stage=says(lambda seen: http(ack_bytes(seen), length=20)),
        error=EITHER,
    ),
    *(
        Case(
            name=f"{status} with an Ack in it",
            row="204, 304 and their like",
            stage=acks_in_http(status=status),
            error=EITHER,
        )
        for status in ("204 No Content", "304 Not Modified", "205 Reset", "201 Created", "299 Odd")
    ),
    *(
        Case(
            name=f"{status} with an Ack in it",
            row="HTML 502, 520, 524",
            stage=acks_in_http(status=status),
            error=error,
            unknown=unknown,
        )
        for status, error, unknown in (
            ("500 Oops", VenueUnavailable, True),
            ("404 Not Found", VenueError, True),
            ("999 Odd", (VenueUnavailable, ProtocolError), True),
        )
    ),
    Case(
        name="an Ack that says it is HTML",
        row="Content-Type lies",
        stage=acks_in_http("Content-Type: text/html; charset=utf-16"),
    ),
    Case(
        name="HTML that says it is JSON",
        row="Content-Type lies",
        stage=says(http(HTML, "Content-Type: application/json")),
        error=ProtocolError,
    ),
    Case(
        name="an Ack that says it is gzip",
        row="Content-Type lies",
        stage=acks_in_http("Content-Encoding: gzip"),
        error=ProtocolError,
    ),
    Case(
        name="UTF-16",
        row="UTF-16 body",
        stage=says(lambda seen: http(ack_bytes(seen).decode().encode("utf-16"))),
        error=ProtocolError,
    ),
    Case(
        name="a byte order mark",
        row="BOM",
        stage=says(lambda seen: http(b"\xef\xbb\xbf" + ack_bytes(seen))),
        error=ProtocolError,
    ),
    Case(
        name="bytes that are no UTF-8",
        row="UTF-16 body",
        stage=says(lambda seen: http(ack_bytes(seen, accountId="\u00e9").replace(b"\\u", b"\xff"))),
        error=ProtocolError,
    ),
    *(
        Case(
            name=f"deeply nested: {where}",
            row="deeply nested JSON",
            stage=acks_with(what),
            error=ProtocolError,
        )
        for where, what in (
            ("unknown", '"x": ' + "[" * 20_000 + "]" * 20_000),
            ("objects", '"x": ' + '{"a":' * 10_000 + "1" + "}" * 10_000),
            ("never closed", '"x": ' + "[" * 50_000),
        )
    ),
    *(
        Case(
            name=f"huge integers: {what}",
            row="huge integers",
            stage=acks_with(more),
            error=ProtocolError,
        )
        for what, more in (
            ("timestamp", f'"timestamp": {"9" * 5000}'),
            ("negative", f'"timestamp": -{"9" * 400}'),
            ("exponent", '"timestamp": 1e999999'),
            ("code", f'"code": {"9" * 5000}'),
        )
    ),
    Case(
        name="an error of a huge code",
        row="huge integers",
        stage=json_is(f'{{"code":{"9" * 400},"message":"no"}}'),
        error=(VenueError, ProtocolError),
    ),
    Case(
        name="an Ack, then the same keys with an error",
        row="duplicate JSON keys",
        stage=says(
            lambda seen: http(
                ack_bytes(seen)[:-1] + b',"code":100001,"reason":"INVALID_HTTP_INPUT"}'
            )
        ),
        error=ProtocolError,
    ),
    Case(
        name="an error, then the same keys with an Ack",
        row="duplicate JSON keys",
        stage=says(lambda seen: http(b'{"code":100001,' + ack_bytes(seen)[1:])),
        error=ProtocolError,
    ),
    *(
        Case(
            name=f"JSON that is no Ack: {text[:20] or 'empty'}",
            row="a page of HTML never crashes the decoder",
            stage=json_is(text),
            error=ProtocolError,
        )
        for text in (
            *("", "null", "[]", "0", '"Ack"', "{}", '{"code":null}', '{"code":"0"}', "NaN"),
            *('{"code":false}', '{"code":0}', '{"code":0,"data":null}', '{"code":0,"data":[]}'),
            *('{"code":0,"data":{}}', '{"code":0,"data":{"status":"Ack"}}', "\x00", '{"code":0'),
        )
    ),
    *(
        Case(
            name=f"no HTTP: {said[:12]!r}",
            row="a page of HTML never crashes the decoder",
            stage=says(said, close=True),
            error=EITHER,
        )
        for said in (
            b"SSH-2.0-OpenSSH_9\r\n",
            b"ICY 200 OK\r\n\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/1.1 OK\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"\x15\x03\x01\x00\x02\x02\x16",
            b"\x00" * 64,
            b"\r\n" * 64,
            b"HTTP/1.1 200 OK\r\nA\x00B: c\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n: empty\r\n\r\n",
            b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
        )
    ),
    Case(
        name="TLS hangs up in the handshake",
        row="TLS closed in the middle",
        stage=tls_over_plain(hang_up_in_handshake),
        error=NotSent,
        unknown=False,
        sends=(0,),
    ),
    Case(
        name="TLS alert in the handshake",
        row="TLS closed in the middle",
        stage=tls_over_plain(alerts),
        error=NotSent,
        unknown=False,
        sends=(0,),
    ),
    Case(
        name="no TLS where it is expected",
        row="TLS closed in the middle",
        stage=tls_over_plain(lambda writer: writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        error=NotSent,
        unknown=False,
        sends=(0,),
    ),
    Case(
        name="TLS ends in the middle of the reply",
        row="TLS closed in the middle",
        stage=peer(cut_without_goodbye, tls=lambda: (serving("127.0.0.1"), trusting())),
        error=EITHER,
    ),
    Case(
        name="a true Ack over TLS",
        row="control",
        stage=peer(
            lambda seen, writer: writer.write(http(ack_bytes(seen))),
            tls=lambda: (serving("127.0.0.1"), trusting()),
        ),
    ),
    *(
        Case(
            name=f"everything asked is said back, {status}",
            row="secrets",
            stage=says(echoes(status)),
            error=error,
            unknown=unknown,
        )
        for status, error, unknown in (
            ("200 OK", InvalidRequest, False),
            ("400 Bad Request", InvalidRequest, False),
            ("503 Unavailable", (VenueUnavailable, InvalidRequest), False),
        )
    ),
    Case(
        name="everything asked is said back, in a page",
        row="secrets",
        stage=says(echoes_in_a_page),
        error=VenueUnavailable,
    ),
    Case(
        name="everything asked is said back, in a page that claims success",
        row="secrets",
        stage=says(lambda seen: echoes_in_a_page(seen).replace(b"502 Bad Gateway", b"200 OK")),
        error=ProtocolError,
    ),
    Case(
        name="everything asked is said back, as a reason of HTTP",
        row="secrets",
        stage=says(lambda seen: http(b"", status=f"502 {seen.header('x-auth-signature')}")),
        error=VenueUnavailable,
    ),
    Case(
        name="everything asked is said back, as broken HTTP",
        row="secrets",
        stage=says(lambda seen: seen.head, close=True),
        error=EITHER,
    ),
    Case(
        name="everything asked is said back, as words of the Ack",
        row="secrets",
        stage=says(
            lambda seen: http(
                ack_bytes(
                    seen, action=seen.header("x-auth-key"), ac=seen.header("x-auth-signature")
                )
            )
        ),
        error=ProtocolError,
    ),
]
