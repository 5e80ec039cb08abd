"""What the server counts and writes down: the access log, refusals and drops in the log, plain counters."""

import logging
import time

from co2.logs import LineBudgets
from co2.server.http.refused import Refused
from co2.xmlrpc.registry import Caller

__all__ = ["MAX_KEPT_LINES", "AccessLog"]

MAX_KEPT_LINES = 1_000
"""Lines of the access log that are kept until they are written together."""

_MAX_ADDRESSES = 1_024
_MAX_TEXT = 512

_RATE = 10.0
_BURST = 20
"""Lines about one address, per second in the long run and at once."""

_TOTAL_RATE = 50.0
_TOTAL_BURST = 2000
"""The same about all addresses together."""

ACCESS_RATE = 50.0
ACCESS_BURST = 2000
"""Lines of one address in the access log, per second in the long run and at once; more are counted there."""

ACCESS_TOTAL_RATE = 200.0
ACCESS_TOTAL_BURST = 20000
"""The same of all addresses together."""

_logger = logging.getLogger("co2.server")


class AccessLog:
    """Counters and logs of one server.

    Args:
        access_log: gets a line per answered request; None for none. Lines come many in one record, in its
            attribute ``lines``: a record for each would cost as much as reading the request.

    Attributes:
        requests: answers by HTTP status, refusals included.
        dropped: connections that were ended without an answer, by reason, one word each.
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
        """Count an answer, and keep its line for the access log.

        Args:
            caller: who asked.
            what: HTTP method and XML-RPC method or path, of which the gate has seen that they are printable.
            status: of HTTP.
            size: of the answer's body in bytes.
            seconds: from the request's end to the answer.
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
        """Hand the kept lines to the access log; tell of suppressed lines, also where no further line comes.

        Args:
            ending: nothing comes after this.
        """
        if self._lines and self._access_log is not None:
            lines, self._lines = self._lines, []
            self._access_log.info("%d requests", len(lines), extra={"lines": lines})
        self._budgets.tell(_logger, logging.INFO, ending=ending)
        if self._access_log is not None:
            self._access.tell(self._access_log, logging.INFO, ending=ending)

    def refused(self, caller: Caller, refused: Refused) -> None:
        """Count and log a refusal."""
        status = 200 if refused.fault is not None else refused.status
        self.requests[status] = self.requests.get(status, 0) + 1
        self._line(caller, f"refused: {refused}")

    def dropped_one(self, caller: Caller, reason: str, text: str) -> None:
        """Count and log a connection that is ended without an answer."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self._line(caller, f"dropped: {text}")

    def _line(self, caller: Caller, text: str) -> None:
        """Write a line about a caller, unless there are too many about its address."""
        self._budgets.log(
            _logger, logging.INFO, caller.address, "%s port %d %s", caller.address, caller.port, text[:_MAX_TEXT]
        )
