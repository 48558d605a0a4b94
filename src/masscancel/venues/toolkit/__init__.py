"""Tools that venues share: steps of flows, settings, rows, values, envelopes and refusals."""

from masscancel.venues.toolkit.parts import (
    NOTHING_OPEN,
    Answer,
    Page,
    Part,
    act_on_pages,
    every_page,
    join,
)
from masscancel.venues.toolkit.refusals import (
    Refusal,
    foreign_error,
    kind_by_prefix,
    open_envelope,
    refusal_error,
)
from masscancel.venues.toolkit.rows import (
    OK,
    SLICE,
    RowDecoder,
    Rows,
    check_fresh,
    check_names,
    decode_json,
    describe_json_error,
    finish,
    whole,
    why_stale,
)
from masscancel.venues.toolkit.settings import (
    check_origin,
    is_whole,
)
from masscancel.venues.toolkit.steps import (
    ask,
    batches,
    every,
    merged,
    one,
    unsigned,
)
from masscancel.venues.toolkit.values import (
    decimal,
    http_date,
    milliseconds,
    retry_after,
    side,
)

__all__ = [
    "NOTHING_OPEN",
    "OK",
    "SLICE",
    "Answer",
    "Page",
    "Part",
    "Refusal",
    "RowDecoder",
    "Rows",
    "act_on_pages",
    "ask",
    "batches",
    "check_fresh",
    "check_names",
    "check_origin",
    "decimal",
    "decode_json",
    "describe_json_error",
    "every",
    "every_page",
    "finish",
    "foreign_error",
    "http_date",
    "is_whole",
    "join",
    "kind_by_prefix",
    "merged",
    "milliseconds",
    "one",
    "open_envelope",
    "refusal_error",
    "retry_after",
    "side",
    "unsigned",
    "whole",
    "why_stale",
]
