"""The access log of a server, its log of refused requests and dropped connections, and its counters."""

import logging
import time

from co2.logs import LineBudgets
from co2.server.http.refused import Refused
from co2.xmlrpc.registry import Caller

__all__ = ["MAX_KEPT_LINES", "AccessLog"]

MAX_KEPT_LINES = 1_000
"""Lines of the access log that wait in memory until they are written together."""

_MAX_ADDRESSES = 1_024
_MAX_TEXT = 512

_RATE = 10.0
_BURST = 20
"""Lines about one address: per second on average, and at once."""

_TOTAL_RATE = 50.0
_TOTAL_BURST = 2000
"""The same limits for all addresses together."""

ACCESS_RATE = 50.0
ACCESS_BURST = 2000
"""Lines about one address in the access log: per second on average, and at once; the rest is counted there."""

ACCESS_TOTAL_RATE = 200.0
ACCESS_TOTAL_BURST = 20000
"""The same limits for all addresses together, in the access log."""

_logger = logging.getLogger("co2.server")


class AccessLog:
    """Counters and logs of one server.

    Args:
        access_log: gets a line for each answered request; None for no access log. One record has many lines, in
            its attribute ``lines``: a record for each line would cost as much as parsing the request.

    Attributes:
        requests: number of answers by HTTP status, refusals included.
        dropped: number of connections that were closed without an answer, by reason, one word each.
    """

    def __init__(self, access_log: logging.Logger | None) -> None:
        self.requests: dict[int, int] = {}
        self.dropped: dict[str, int] = {}
        self._access_log = access_log
        self._lines: list[str] = []
        self._second = 0
        self._second_text = ""
        self._budgets = LineBudgets(_RATE, _BURST, _TOTAL_RATE, _TOTAL_BURST, max_sources=_MAX_ADDRESSES)
        self._access = LineBudgets(
            ACCESS_RATE, ACCESS_BURST, ACCESS_TOTAL_RATE, ACCESS_TOTAL_BURST, max_sources=_MAX_ADDRESSES
        )

    def answered(self, caller: Caller, what: str, status: int, size: int, seconds: float) -> None:
        """Count an answer, and queue its line for the access log.

        Args:
            caller: the sender of the request.
            what: HTTP method, and XML-RPC method or path; the gate has checked that they are printable.
            status: HTTP status of the answer.
            size: bytes of the answer's body.
            seconds: from the end of the request to the answer.
        """
        self.requests[status] = self.requests.get(status, 0) + 1
        if self._access_log is None or not self._access.take(caller.address, size):
            return
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        milli = int((now - second) * 1000)
        self._lines.append(
            f"{self._second_text}.{milli:03} {caller.address} {what[:_MAX_TEXT]} {status} {size} "
            f"{seconds * 1000:.1f} ms"
        )
        if len(self._lines) >= MAX_KEPT_LINES:
            self.write_down()

    def write_down(self, ending: bool = False) -> None:
        """Write the queued lines to the access log, and report how many lines were suppressed.

        Args:
            ending: whether this is the last call.
        """
        if self._lines and self._access_log is not None:
            lines, self._lines = self._lines, []
            self._access_log.info("%d requests", len(lines), extra={"lines": lines})
        self._budgets.tell(_logger, logging.INFO, ending=ending)
        if self._access_log is not None:
            self._access.tell(self._access_log, logging.INFO, ending=ending)

    def refused(self, caller: Caller, refused: Refused) -> None:
        """Count and log a refused request."""
        status = 200 if refused.fault is not None and not refused.as_json else refused.status
        self.requests[status] = self.requests.get(status, 0) + 1
        self._line(caller, f"refused: {refused}")

    def dropped_one(self, caller: Caller, reason: str, text: str) -> None:
        """Count and log a connection that is closed without an answer.

        Args:
            caller: the other end.
            reason: one word, the key of the counter.
            text: the reason for the log.
        """
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self._line(caller, f"dropped: {text}")

    def _line(self, caller: Caller, text: str) -> None:
        """Log a line about a caller, within the limits of its address."""
        self._budgets.log(
            _logger, logging.INFO, caller.address, "%s port %d %s", caller.address, caller.port, text[:_MAX_TEXT]
        )
