"""What a caller is told when a handler raises: a code and a text, never the inside of the host."""

import logging
import secrets

from co2.errors import InternalError, PeerError

__all__ = ["as_fault"]

_logger = logging.getLogger("co2.calls")


def as_fault(error: Exception, doing: str) -> PeerError:
    """Give the error that a caller is told.

    Anything but a :class:`~co2.errors.PeerError` is our own bug: it is logged in full under a random id, and only
    the id goes out.

    Args:
        error: what was raised.
        doing: method or page, for the log.
    """
    if isinstance(error, PeerError):
        return error
    told = InternalError(secrets.token_hex(4))
    _logger.error("internal error %s in %s", told.error_id, doing, exc_info=error)
    return told
