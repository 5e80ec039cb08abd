"""What the server counts and writes down: the access log, refusals and drops in the log, plain counters."""

import logging
import time

from co2.logs import LineLimit
from co2.server.refusal import Refused
from co2.xmlrpc.registry import Caller

__all__ = ["MAX_KEPT_LINES", "Books"]

MAX_KEPT_LINES = 1_000
"""Lines of the access log that are kept until they are written together."""

_MAX_ADDRESSES = 1_024
_MAX_TEXT = 512

_logger = logging.getLogger("co2.server")


class Books:
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
        self._limits: dict[str, LineLimit] = {}

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
        if self._access_log is None:
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

    def write_down(self) -> None:
        """Hand the kept lines to the access log."""
        if self._lines and self._access_log is not None:
            lines, self._lines = self._lines, []
            self._access_log.info("%d requests", len(lines), extra={"lines": lines})

    def refused(self, caller: Caller, refused: Refused) -> None:
        """Count and log a refusal."""
        self.requests[refused.status] = self.requests.get(refused.status, 0) + 1
        self._line(caller, f"refused: {refused}")

    def dropped_one(self, caller: Caller, reason: str, text: str) -> None:
        """Count and log a connection that is ended without an answer."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self._line(caller, f"dropped: {text}")

    def _line(self, caller: Caller, text: str) -> None:
        """Write a line about a caller, unless there are too many about its address."""
        limit = self._limits.get(caller.address)
        if limit is None:
            if len(self._limits) >= _MAX_ADDRESSES:
                del self._limits[next(iter(self._limits))]
            limit = self._limits[caller.address] = LineLimit()
        if limit.allow():
            held_back = limit.take_suppressed()
            more = f" ({held_back} more of this address were not written down)" if held_back else ""
            _logger.info("%s port %d %s%s", caller.address, caller.port, text[:_MAX_TEXT], more)
