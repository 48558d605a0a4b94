"""AscendEX's refusals: what each code, status and page means."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest

from ascendex_support import (
    ID,
    NOW,
    PAGE,
    STAMP,
    SYMBOLS,
    VENUE,
    acknowledgement,
    cancel,
    decoded,
    list_orders,
    only_call,
    orders,
    reply,
    sample,
)
from masscancel import (
    AuthenticationError,
    InvalidRequest,
    PermissionDenied,
    ProtocolError,
    RateLimited,
    VenueError,
    VenueUnavailable,
)
from masscancel.errors import StampRefused

pytestmark = pytest.mark.unmeasured

#: The reference page's table of codes, with what it says that a client should do.
ACCOUNT = (AuthenticationError, PermissionDenied)

CODES: list[tuple[int, str, type[VenueError] | tuple[type[VenueError], ...]]] = [
    (100001, "INVALID_HTTP_INPUT", InvalidRequest),
    (100002, "DATA_NOT_AVAILABLE", InvalidRequest),
    (100003, "KEY_CONFLICT", InvalidRequest),
    (100004, "INVALID_REQUEST_DATA", InvalidRequest),
    (100005, "INVALID_WS_REQUEST_DATA", InvalidRequest),
    (100006, "INVALID_ARGUMENT", InvalidRequest),
    (100008, "SYMBOL_ERROR", InvalidRequest),
    (100009, "AUTHORIZATION_NEEDED", AuthenticationError),
    (100010, "INVALID_OPERATION", InvalidRequest),
    (100011, "INVALID_TIMESTAMP", StampRefused),
    (100012, "INVALID_STR_FORMAT", InvalidRequest),
    (100013, "INVALID_NUM_FORMAT", InvalidRequest),
    (100101, "UNKNOWN_ERROR", VenueUnavailable),
    (150001, "INVALID_JSON_FORMAT", InvalidRequest),
    (200001, "AUTHENTICATION_FAILED", AuthenticationError),
    (200002, "TOO_MANY_ATTEMPTS", RateLimited),
    (200003, "ACCOUNT_NOT_FOUND", ACCOUNT),
    (200004, "ACCOUNT_NOT_SETUP", ACCOUNT),
    (200005, "ACCOUNT_ALREADY_EXIST", ACCOUNT),
    (200006, "ACCOUNT_ERROR", ACCOUNT),
    (200010, "PASSWORD_ERROR", ACCOUNT),
    (200014, "RESTRICTED_ACCOUNT", PermissionDenied),
    (200015, "PERMISSION_DENIED", PermissionDenied),
    (300006, "INVALID_ORDER_ID", InvalidRequest),
    (300012, "INVALID_PRODUCT", InvalidRequest),
    (300019, "", InvalidRequest),
    (300020, "TRADING_RESTRICTED", PermissionDenied),
    (300021, "TRADING_DISABLED", PermissionDenied),
    (500000, "", VenueUnavailable),
    (510000, "", VenueUnavailable),
    (510001, "SERVER_ERROR", VenueUnavailable),
    (519999, "", VenueUnavailable),
    (900001, "HUMAN_CHALLENGE", PermissionDenied),
    # no code of the documents', or one of which they say nothing to a client
    (1, "", VenueError),
    (-1, "", VenueError),
    (100000, "", VenueError),
    (300011, "INVALID_BALANCE", VenueError),
    (310001, "INVALID_MARGIN_BALANCE", VenueError),
    (499999, "", VenueError),
    (520000, "", VenueError),
    (900002, "", VenueError),
    (2**70, "", VenueError),
]


def refusals(code: int, reason: str) -> dict[str, object]:
    """The same refusal in each shape that a venue's `no` has."""
    said = {"code": code, "reason": reason, "message": "In its own words."}
    return {
        "bare": said,
        "with Err": said | {"status": "Err", "ac": "CASH", "accountId": "csh1", "info": {"id": ID}},
        "with a list": said | {"status": "Err", "info": [{"code": 300004}]},
        "with data": said | {"data": acknowledgement()["data"]},
        "Err in data": acknowledgement(status="Err", info=said),
    }


@pytest.mark.parametrize(("code", "reason", "kind"), CODES, ids=[str(row[0]) for row in CODES])
@pytest.mark.parametrize("shape", refusals(1, ""))
def test_what_each_code_means(code: int, reason: str, kind: Any, shape: str) -> None:
    """The type by the code, at HTTP 200 too; code, reason and message are kept."""
    error = decoded(cancel(), refusals(code, reason)[shape])
    assert type(error) in (kind if isinstance(kind, tuple) else (kind,))
    assert (error.code, error.reason, error.http_status) == (code, reason, 200)
    assert "In its own words." in str(error)
    # What is not documented may mean anything.
    undocumented = type(error) is VenueError and shape in ("bare", "with data")
    assert error.may_have_executed is (type(error) is VenueUnavailable or undocumented)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize(
    ("code", "kind"),
    [(200001, AuthenticationError), (100011, StampRefused), (510001, VenueUnavailable)],
)
def test_the_code_goes_before_the_http_status(status: int, code: int, kind: type[Any]) -> None:
    """Whatever HTTP status the venue puts its code under."""
    error = decoded(cancel(), {"code": code, "reason": "WHY"}, status=status)
    assert type(error) is kind
    assert error.http_status == status


@pytest.mark.parametrize("where", ["top", "data"])
@pytest.mark.parametrize(
    "said", [{}, {"reason": "WHY"}, {"reason": "WHY", "errorMsg": "In its own words."}]
)
@pytest.mark.parametrize("category", ["cash", "futures"])
def test_an_err_without_a_code_is_a_refusal_still(
    category: str, said: dict[str, str], where: str
) -> None:
    """The venue said no: that is known, and nothing was carried out."""
    error = decoded(
        cancel(category),
        {"code": 0, "status": "Err", **said}
        if where == "top"
        else acknowledgement(category, status="Err", info=said),
    )
    assert isinstance(error, VenueError)
    assert not error.may_have_executed
    assert error.reason == said.get("reason", "")


@pytest.mark.parametrize(
    ("name", "code", "reason", "message"),
    [
        ("error_place_order", 300011, "INVALID_BALANCE", "Not Enough Account Balance"),
        ("error_cancel_order", 300006, "INVALID_ORDER_ID", "Invalid Client Order Id"),
        ("error_batch", 300013, "INVALID_BATCH_ORDER", "Batch Order failed"),
    ],
)
@pytest.mark.parametrize("category", SYMBOLS)
def test_the_documents_own_errors(
    category: str, name: str, code: int, reason: str, message: str
) -> None:
    """Each arrives with HTTP 200, and is a VenueError with what the venue said."""
    error = decoded(cancel(category), sample(name))
    assert isinstance(error, VenueError)
    assert (error.code, error.reason, error.http_status) == (code, reason, 200)
    assert message in str(error)


def test_what_a_refusal_says_in_its_info_is_kept() -> None:
    """Where the top says no more than that it is one; and nothing is made up."""
    info = {"code": 300020, "reason": "TRADING_RESTRICTED", "message": "In its own words."}
    error = decoded(cancel(), {"code": 0, "status": "Err", "info": info})
    assert type(error) is PermissionDenied
    assert (error.code, error.reason, error.message) == tuple(info.values())
    error = decoded(cancel(), {"code": 0, "status": "Err"})
    assert (error.code, error.reason, error.message) == (None, "", "")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, ProtocolError),
        (307, ProtocolError),
        (400, InvalidRequest),
        (401, AuthenticationError),
        (403, PermissionDenied),
        (404, InvalidRequest),
        (429, RateLimited),
        (500, VenueUnavailable),
        (502, VenueUnavailable),
        (503, VenueUnavailable),
        (520, VenueUnavailable),
        (524, VenueUnavailable),
    ],
)
@pytest.mark.parametrize("body", [PAGE, b"", b"{}", b"[]", acknowledgement(), {"code": 0}])
def test_an_http_error_without_a_code(status: int, kind: type[Any], body: object) -> None:
    """The status says what it is; of what is not the venue's own, nothing about key or request."""
    if isinstance(body, bytes) and 400 <= status < 429:
        kind = VenueUnavailable
    for call in (cancel(), cancel("futures"), list_orders()):
        error = decoded(call, body, status=status)
        assert type(error) is kind
        assert error.may_have_executed or (isinstance(body, bytes) and kind is RateLimited)


@pytest.mark.parametrize("status", [201, 202, 203, 204, 206])
def test_only_http_200_acknowledges(status: int) -> None:
    """Another 2xx is not what the documents promise."""
    assert type(decoded(cancel(), acknowledgement(), status=status)) is ProtocolError


def test_a_rate_limit_says_how_long_to_wait() -> None:
    """The header counts with the venue's code as without."""
    for body in (PAGE, {"code": 200002, "reason": "TOO_MANY_ATTEMPTS"}):
        with pytest.raises(RateLimited) as caught:
            cancel().decode(reply(body, 429, Retry_After="3"), STAMP)
        assert caught.value.retry_after == 3.0


@pytest.mark.parametrize("body", [PAGE, {"code": 200002}, {"code": 0, "data": {}}])
def test_a_rate_limit_may_name_the_time_to_come_back(body: object) -> None:
    """By the venue's clock, not by this machine's, whatever was asked."""
    until = formatdate(NOW / 1000 + 7, usegmt=True)
    for call in (
        cancel(),
        list_orders(),
        only_call(VENUE.order_states("cash", orders("a1"))),
        only_call(VENUE.prepare(["cash"])),
    ):
        with pytest.raises(RateLimited) as caught:
            call.decode(reply(body, 429, Retry_After=until), STAMP)
        assert caught.value.retry_after == 7.0
    with pytest.raises(RateLimited):
        VENUE.probe(VENUE.rest_url).decode(reply(body, 429, Retry_After=until))


def test_a_rate_limit_inside_of_a_reply_may_name_it_too() -> None:
    """Its code stands in the info of the data."""
    body = acknowledgement(status="Err", info={"code": 200002})
    until = formatdate(NOW / 1000 + 7, usegmt=True)
    with pytest.raises(RateLimited) as caught:
        cancel().decode(reply(body, Retry_After=until), STAMP)
    assert caught.value.retry_after == 7.0
