"""What each failure of aiohttp, and of the system under it, means to a caller."""

import errno
import os
import socket
import ssl
from collections.abc import Mapping
from typing import Final

import aiohttp
from aiohttp import client_exceptions

from masscancel.errors import MassCancelError, NotSent, OutcomeUnknown, ProtocolError

__all__ = ["MEANING", "translate", "why"]

#: What each of aiohttp's client exceptions means, by the nearest class.
MEANING: Final[Mapping[type[BaseException], type[MassCancelError]]] = {
    # no connection was made
    aiohttp.ClientConnectorError: NotSent,
    aiohttp.ClientConnectorDNSError: NotSent,
    aiohttp.ClientConnectorSSLError: NotSent,
    aiohttp.ClientConnectorCertificateError: NotSent,
    aiohttp.ClientSSLError: NotSent,
    aiohttp.ClientProxyConnectionError: NotSent,
    client_exceptions.UnixClientConnectorError: NotSent,
    aiohttp.ConnectionTimeoutError: NotSent,
    aiohttp.ServerFingerprintMismatch: NotSent,
    aiohttp.InvalidURL: NotSent,
    aiohttp.InvalidUrlClientError: NotSent,
    aiohttp.NonHttpUrlClientError: NotSent,
    # a connection broke under the request
    aiohttp.ClientError: OutcomeUnknown,
    aiohttp.ClientConnectionError: OutcomeUnknown,
    aiohttp.ClientConnectionResetError: OutcomeUnknown,
    aiohttp.ClientOSError: OutcomeUnknown,
    aiohttp.ServerConnectionError: OutcomeUnknown,
    aiohttp.ServerDisconnectedError: OutcomeUnknown,
    aiohttp.ServerTimeoutError: OutcomeUnknown,
    aiohttp.SocketTimeoutError: OutcomeUnknown,
    aiohttp.ClientPayloadError: OutcomeUnknown,
    client_exceptions.UploadAbortedError: OutcomeUnknown,
    # what came back is not what HTTP allows, or not what was asked for
    aiohttp.ClientResponseError: ProtocolError,
    aiohttp.ContentTypeError: ProtocolError,
    aiohttp.WSServerHandshakeError: ProtocolError,
    aiohttp.ClientHttpProxyError: ProtocolError,
    aiohttp.TooManyRedirects: ProtocolError,
    aiohttp.RedirectClientError: ProtocolError,
    aiohttp.InvalidUrlRedirectClientError: ProtocolError,
    aiohttp.NonHttpUrlRedirectClientError: ProtocolError,
    aiohttp.WSMessageTypeError: ProtocolError,
    # aiohttp does not wrap everything
    OSError: OutcomeUnknown,
    Exception: OutcomeUnknown,
}


#: This machine has no file descriptor, no port or no memory left for a connection.
_EXHAUSTED: Final = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}
)


def translate(problem: Exception, origin: str, *, connecting: bool = False) -> MassCancelError:
    """Our error for one of aiohttp's or the system's. Its text holds nothing of the request.

    Args:
        problem: what was raised.
        origin: where the request was going.
        connecting: whether no connection had been had yet, so that nothing can have been written.
    """
    meaning = next(MEANING[kind] for kind in type(problem).__mro__ if kind in MEANING)
    if connecting:
        meaning = NotSent
    what = "could not be reached" if meaning is NotSent else "gave no usable answer"
    error = meaning(f"{origin} {what}: {why(problem)}")
    if isinstance(error, NotSent):
        error.exhausted = getattr(problem, "errno", None) in _EXHAUSTED
    return error


def why(problem: BaseException) -> str:
    """Its reason, in the system's words where there are any, never in those of a peer."""
    cause = getattr(problem, "os_error", problem)
    certificate = getattr(problem, "certificate_error", None)
    if isinstance(certificate, ssl.SSLCertVerificationError):
        return f"certificate not accepted, {certificate.verify_message}"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed, {cause.reason}"
    if isinstance(cause, OSError) and cause.strerror:
        if cause.errno is None or isinstance(cause, socket.gaierror):  # codes of its own
            return cause.strerror
        return os.strerror(cause.errno)  # asyncio puts words of its own in place of these
    if type(problem) is aiohttp.ClientConnectionError and problem.args:
        return str(problem.args[0])
    return _WORDS.get(type(problem), type(problem).__name__)


_WORDS: Final[Mapping[type[BaseException], str]] = {
    aiohttp.ConnectionTimeoutError: "no connection in time",
    aiohttp.ServerDisconnectedError: "the connection was closed",
    aiohttp.ClientPayloadError: "the reply was cut short",
    aiohttp.ClientResponseError: "the reply is not valid HTTP",
}
