"""The status of HTTP for each error, by its fault code."""

from co2.errors import (
    Ambiguous,
    BadParams,
    BadRequest,
    CallTimeout,
    Denied,
    IdentityRefused,
    InternalError,
    NoSuchMethod,
    NotCallable,
    NotLoadable,
    NotOurRelay,
    ParseError,
    PeerError,
    PluginFailed,
    StorageFailed,
    StorageFull,
    TooManySatellites,
    UnknownHost,
    Unreachable,
    WrongEncoding,
)

__all__ = ["BUSY", "STATUSES", "status_of"]

STATUSES = {
    error.code: status
    for status, errors in {
        400: (ParseError, WrongEncoding, BadRequest, BadParams),
        403: (IdentityRefused, NotOurRelay, Denied),
        404: (NoSuchMethod, UnknownHost),
        409: (Ambiguous, NotCallable, NotLoadable),
        500: (InternalError,),
        502: (PeerError, PluginFailed, Unreachable),
        503: (TooManySatellites, StorageFull, StorageFailed),
        504: (CallTimeout,),
    }.items()
    for error in errors
}
"""HTTP status by fault code. Any other code comes from the other side: 502."""


BUSY = 503
"""HTTP status of :class:`~co2.errors.Busy`, which has the code of what could never succeed."""


def status_of(code: int) -> int:
    """Return the HTTP status for a fault code."""
    return STATUSES.get(code, 502)
