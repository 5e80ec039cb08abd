"""From a request that has passed the gate to its answer: look up the handler, and an error as JSON."""

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

from co2.errors import Busy, NoSuchMethod, PeerError, ValueRefused
from co2.exact_json.statuses import BUSY, status_of
from co2.server.door.answers import DoorAnswer, DoorHandler, DoorRequest, json_answer
from co2.server.door.routes import Route
from co2.xmlrpc.faults import fault_of
from co2.xmlrpc.registry import Caller

__all__ = ["JsonDoor", "error_answer"]

MAX_TEXT = 4_096
"""Characters of an error that are told."""


class JsonDoor:
    """Answers the routes of a host.

    Args:
        handlers: by path of the route; those that this host lacks are missing.
        elsewhere: for the text of a refusal: where the missing routes are.
    """

    def __init__(self, handlers: Mapping[str, DoorHandler], elsewhere: str) -> None:
        self._handlers = dict(handlers)
        self._elsewhere = elsewhere

    async def answer(
        self, route: Route, target: str, body: bytes, caller: Caller, *, is_lines: bool
    ) -> DoorAnswer:
        """Return the answer to a request.

        Args:
            route: that the gate has found.
            target: path and query as received.
            body: as received.
            caller: the sender of the request.
            is_lines: whether the body is JSON Lines.
        """
        path, _, query = target.partition("?")
        try:
            handler = self._handlers.get(route.path)
            if handler is None:
                raise _NotHere(f"{route.method} {route.path} is not on this host; {self._elsewhere}")
            asked = dict(reversed(parse_qsl(query, keep_blank_values=True)))  # the first of a name counts
            rest = unquote(path[len(route.path) :]) if route.is_prefix else ""
            return await handler(DoorRequest(route, rest, asked, body, is_lines, caller))
        except Busy as error:
            return error_answer(error.code, str(error), BUSY)
        except ValueRefused as error:  # of a value that was received
            return error_answer(PeerError.code, str(error))
        except Exception as error:
            return error_answer(*fault_of(error, f"{route.method} {route.path}"))


class _NotHere(NoSuchMethod):
    """A route of the other role: answered here, as status 404."""

    def __str__(self) -> str:
        return self.name


def error_answer(code: int, text: str, status: int = 0) -> DoorAnswer:
    """Return an error as JSON.

    Args:
        code: fault code.
        text: what is wrong, where, and what to do next.
        status: of HTTP; 0 for that of the code.
    """
    told = {"error": {"code": code, "text": text[:MAX_TEXT]}}
    return json_answer(told, status or status_of(code), code=code)
