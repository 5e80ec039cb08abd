"""The routes of both roles: call a method, list the methods, show the host."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from co2.errors import BadRequest, NoSuchMethod
from co2.protocol.wire.host_names import is_method_name
from co2.server.door.answers import DoorAnswer, DoorHandler, DoorRequest
from co2.server.door.long_json import LongJson
from co2.server.rpc.answer_turns import AnswerTurns
from co2.server.rpc.method_call import MethodCalls, is_reserved
from co2.xmlrpc.registry import Caller, Registry
from co2.xmlrpc.writer import WrittenValue

__all__ = ["NAMES_TOLD", "CommonRoutes"]

NAMES_TOLD = 384 * 1024
"""Bytes of names of methods in one answer, roughly; further ones are counted."""

_OF_EACH = 64
"""Bytes that each row has besides its names, roughly."""

_INSTEAD = {
    "relay.relay": "POST /api/send",
    "relay.fetch": "GET /api/log, or the WebSocket /live",
    "relay.register": "GET /api/log, or the WebSocket /live, which need no registration",
    "relay.unregister": "nothing: who came in here is not registered",
    "system.multicall": "several requests over one connection",
    "method_call": "POST /api/call/METHOD?host=HOST",
    "web.method_call": "POST /api/call/METHOD?host=HOST",
}
"""Methods for members that speak XML-RPC, and what to use in their place."""


class CommonRoutes:
    """Handlers of the routes that every host has.

    Args:
        calls: calls a method here or elsewhere.
        registry: methods of this host.
        host_id: returns this host's.
        elsewhere: yields the host_id of each other host with the names of its methods.
        properties: returns what ``/api/status`` shows; takes whether the caller is on this machine.
        turns: of the event loop.
    """

    def __init__(
        self,
        calls: MethodCalls,
        registry: Registry,
        *,
        host_id: Callable[[], str],
        elsewhere: Callable[[], Iterator[tuple[str, Sequence[str]]]],
        properties: Callable[[bool], Mapping[str, Any]],
        turns: AnswerTurns,
    ) -> None:
        self.long = LongJson(turns)
        self._calls = calls
        self._registry = registry
        self._host_id = host_id
        self._elsewhere = elsewhere
        self._properties = properties
        self._turns = turns

    def handlers(self) -> dict[str, DoorHandler]:
        """Return the handlers by path of the route."""
        return {"/api/call/": self.call, "/api/methods": self.methods, "/api/status": self.status}

    async def call(self, request: DoorRequest) -> DoorAnswer:
        """Call a method with the body as its data; with ``host`` in the query that of this host."""
        data = await self.long.read(request.body) if request.body.strip() else None
        found = await self.call_method(request.rest, data, request.query.get("host"), request.caller)
        return DoorAnswer(b'{"result":' + await self.long.write(found) + b"}\n")

    async def call_method(self, method: str, data: Any, host: str | None, caller: Caller) -> Any:
        """Call a method and return its result.

        Args:
            method: its name.
            data: for it.
            host: name or host_id of the host; None for this one or the one that has the method.
            caller: sender of the request.

        Raises:
            PeerError: the call failed.
        """
        if not is_method_name(method):
            raise NoSuchMethod(method)
        if (instead := _INSTEAD.get(method)) is not None:
            raise BadRequest(f"{method} is for members that speak XML-RPC; in JSON use {instead}")
        # The methods of hosts themselves take other keys than data.
        argument = data if is_reserved(method) and isinstance(data, dict) else {"data": data}
        caller = replace(caller, over_json=True)
        if host is None and method in self._registry:
            found = await self._registry.dispatch(method, [argument], caller)
        else:
            named = {"host_id": host} if host is not None else {}
            found = await self._calls.method_call([{**argument, "method_name": method, **named}], caller)
        return found.value if isinstance(found, WrittenValue) else found

    async def methods(self, _request: DoorRequest) -> DoorAnswer:
        """List all methods, with the hosts that have them, and what this host knows of its own."""
        rows: dict[str, dict[str, Any]] = {}
        left, left_out = NAMES_TOLD, 0
        for name in self._registry.names():
            entry = self._registry.entry(name)
            signatures = [list(one) for one in entry.signatures]
            rows[name] = {"name": name, "hosts": [self._host_id()], "help": entry.help, "signatures": signatures}
            left -= len(name) + len(entry.help) + _OF_EACH
        for host_id, names in await self._turns.collect(self._elsewhere()):
            if left <= 0:
                left_out += len(names)
                continue
            for name in names:
                row = rows.setdefault(name, {"name": name, "hosts": []})
                row["hosts"].append(host_id)
                left -= _OF_EACH if len(row["hosts"]) > 1 else len(name) + _OF_EACH
        told = {"methods": [rows[name] for name in sorted(rows)], "left_out": left_out}
        return DoorAnswer(await self.long.write(told) + b"\n")

    async def status(self, request: DoorRequest) -> DoorAnswer:
        """Show this host, as ``co2.get_properties`` does."""
        return DoorAnswer(await self.long.write(self._properties(request.caller.is_local)) + b"\n")
