"""The Fault for an error in a handler: a code and a text, without details of the host."""

import logging
import secrets

from co2.errors import InternalError, PeerError

__all__ = ["as_fault", "fault_of"]

_logger = logging.getLogger("co2.calls")


def as_fault(error: Exception, doing: str) -> PeerError:
    """Return the error to send to the caller.

    Any error but a :class:`~co2.errors.PeerError` is a bug of ours: it is logged in full under a random id, and
    the caller gets only the id.

    Args:
        error: the error raised.
        doing: method or page, for the log.
    """
    if isinstance(error, PeerError):
        return error
    told = InternalError(secrets.token_hex(4))
    _logger.error("internal error %s in %s", told.error_id, doing, exc_info=error)
    return told


def fault_of(error: Exception, doing: str) -> tuple[int, str]:
    """Return the code and the text of the Fault for an error, see :func:`as_fault`.

    For callers through whose frame the error has come: kept in a variable there, it would be in a cycle with its
    own traceback, and keep all values of all these frames until the garbage collector finds it.
    """
    told = as_fault(error, doing)
    return told.code, str(told)
