"""The methods that every host has: ping, test, the ``co2.``, ``system.`` and ``web.`` introspection."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from co2.errors import BadParams, BadRequest
from co2.protocol.wire.host_names import MAX_METHOD_NAME
from co2.xmlrpc.faults import fault_of
from co2.xmlrpc.registry import Caller, Registry
from co2.xmlrpc.signature_schemas import schema_of
from co2.xmlrpc.writer import LazyArray, Written, value_steps

__all__ = ["CAPABILITIES", "FREE_RESULTS", "MAX_ANSWERS", "MAX_MULTICALL", "MAX_RESULTS", "add_introspection"]

MAX_ANSWERS = 8 * 1024 * 1024
"""Bytes of results in one answer of system.multicall after which further calls are refused."""

MAX_MULTICALL = 64
"""Calls in one ``system.multicall``."""

MAX_RESULTS = 32 * 1024 * 1024
"""Bytes of results in all answers of system.multicall that wait to be sent; above it, an answer gets no further
results beyond :data:`FREE_RESULTS`."""

FREE_RESULTS = 16 * 1024
"""Bytes of results that one answer of system.multicall may have in any case."""

CAPABILITIES = {
    "xmlrpc": {"specUrl": "http://xmlrpc.com/spec.md", "specVersion": 1},
    "introspection": {"specUrl": "http://xmlrpc-c.sourceforge.net/introspection.html", "specVersion": 1},
    "system.multicall": {"specUrl": "https://mirrors.talideon.com/articles/multicall.html", "specVersion": 1},
    "nil": {"specUrl": "http://ontosys.com/xml-rpc/extensions.php", "specVersion": 1},
    "faults_interop": {
        "specUrl": "http://xmlrpc-epi.sourceforge.net/specs/rfc.fault_codes.php",
        "specVersion": 20010516,
    },
}
"""The answer of ``system.getCapabilities``."""


Pause = Callable[[float], Awaitable[float]]
"""Lets others have their turns: takes the monotonic time at which a part began, returns that of the next one."""


def add_introspection(
    registry: Registry, properties: Callable[[Caller], Mapping[str, Any]], pause: Pause | None = None
) -> None:
    """Add the methods of both roles to a registry (all but ``method_call``).

    Args:
        registry: to add the methods to.
        properties: returns the answer of ``co2.get_properties`` for a caller.
        pause: awaited in the middle of long work; None to let the event loop run once.
    """
    inside = _Introspection(registry, properties, pause or _sleep)
    for handler, name, signatures, aliases in (
        (inside.ping, "ping", [["boolean"], ["boolean", "struct"]], ("web.ping",)),
        (inside.test, "test", [["any", "any"]], ("web.test",)),
        (
            inside.get_method_names,
            "co2.get_method_names",
            [["array"], ["array", "struct"]],
            ("system.listMethods", "web.get_method_names"),
        ),
        (
            inside.get_method_help,
            "co2.get_method_help",
            [["string", "string"], ["string", "struct"]],
            ("system.methodHelp", "web.get_method_help"),
        ),
        (
            inside.get_method_signature,
            "co2.get_method_signature",
            [["array", "string"], ["array", "struct"]],
            ("system.methodSignature", "web.get_method_signature"),
        ),
        (inside.get_method_schema, "co2.get_method_schema", [["struct", "string"], ["struct", "struct"]], ()),
        (inside.get_properties, "co2.get_properties", [["struct"], ["struct", "struct"]], ()),
        (inside.get_capabilities, "system.getCapabilities", [["struct"], ["struct", "struct"]], ()),
        (inside.multicall, "system.multicall", [["array", "array"]], ()),
    ):
        registry.add(name, handler, help=handler.__doc__ or "", signatures=signatures, aliases=aliases)


class _Introspection:
    """The handlers. Callers read their docstrings."""

    def __init__(
        self, registry: Registry, properties: Callable[[Caller], Mapping[str, Any]], pause: Pause
    ) -> None:
        self._registry = registry
        self._properties = properties
        self._pause = pause
        self._results = _Results()
        self._one_long = asyncio.Lock()

    def ping(self, params: Sequence[Any], _caller: Caller) -> bool:
        """Return true: this host is reachable."""
        _no_argument(params)
        return True

    def test(self, params: Sequence[Any], _caller: Caller) -> Any:
        """Return the argument unchanged."""
        if len(params) != 1:
            raise BadParams(f"expected exactly one argument of any type, got {len(params)}")
        return params[0]

    def get_method_names(self, params: Sequence[Any], _caller: Caller) -> list[str]:
        """List the names of all methods of this host, those of its plugins included."""
        _no_argument(params)
        return self._registry.names()

    def get_method_help(self, params: Sequence[Any], _caller: Caller) -> str:
        """Return the description of a method. Takes its name, or {'data': name}."""
        return self._registry.entry(_method_name(params)).help

    def get_method_signature(self, params: Sequence[Any], _caller: Caller) -> list[list[str]]:
        """List a method's signatures, each the type of the result and then of the arguments.

        Takes the method's name, or {'data': name}.
        """
        return self._registry.entry(_method_name(params)).signatures

    async def get_method_schema(self, params: Sequence[Any], _caller: Caller) -> dict[str, Any]:
        """Describe a method with JSON Schema. Takes its name, or {'data': name}.

        Returns {name, summary, help, parameters, result, danger}. ``parameters`` is the schema of the key ``data``
        for a plugin's method, and of the argument for a host's own.
        """
        name = _method_name(params)
        entry = self._registry.entry(name)
        described = schema_of(entry.signatures) if entry.describe is None else await entry.describe()
        return {"name": name, "summary": entry.help.partition("\n")[0], "help": entry.help, **described}

    def get_properties(self, params: Sequence[Any], caller: Caller) -> Mapping[str, Any]:
        """Return role, host_id, version, uptime, software, hardware, plugins and limits of this host."""
        _no_argument(params)
        return self._properties(caller)

    def get_capabilities(self, params: Sequence[Any], _caller: Caller) -> Mapping[str, Any]:
        """List the extensions of XML-RPC that this host speaks."""
        _no_argument(params)
        return CAPABILITIES

    async def multicall(self, params: Sequence[Any], caller: Caller) -> list[Any]:
        """Make several calls at once, in order, at most 64.

        Takes an array of {'methodName': string, 'params': array}. Each answer is an array with the result, or a
        struct with faultCode and faultString. Calls of system.multicall in it are refused.
        """
        calls = params[0] if len(params) == 1 else None
        if not isinstance(calls, list):
            raise BadParams("expected exactly one argument: an array of {'methodName': …, 'params': …}")
        if len(calls) > MAX_MULTICALL:
            raise BadParams(f"{len(calls)} calls in one; at most {MAX_MULTICALL}")
        answers = _Answers(self._results)
        for call in calls:
            answers.append(await self._one_of_many(call, caller, answers))
            await asyncio.sleep(0)  # many calls in one must not block others
        return answers

    async def _one_of_many(self, call: Any, caller: Caller, before: "_Answers") -> Any:
        """Return the answer of one call: a list with its result, or a Fault as a dictionary."""
        method = ""
        try:
            method, params = _read_inner_call(call)
            before.check_room(0)
            result = self._registry.call(method, params, caller)
            if not isinstance(result, LazyArray) and hasattr(result, "__await__"):
                result = await result
            # Encoded here, so that a result that cannot be is the fault of this call alone.
            xml = await self._encoded(result, before)
            before.check_room(len(xml))
            before.hold(len(xml))
            return [Written(xml)]
        except Exception as error:
            code, text = fault_of(error, method or "system.multicall")
            return {"faultCode": code, "faultString": text}

    async def _encoded(self, value: Any, before: "_Answers") -> bytes:
        """Encode a value; between two steps others have their turns."""
        steps = value_steps(value)
        try:
            next(steps)
        except StopIteration as end:
            return b"".join(end.value)
        # One long result at a time, from its beginning: others that wait keep nothing of theirs.
        del steps
        async with self._one_long:
            before.check_room(0)
            steps = value_steps(value)
            began = monotonic()
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    return b"".join(end.value)
                began = await self._pause(began)


class _Results:
    """The encoded results in all answers of system.multicall.

    Attributes:
        size: bytes.
    """

    def __init__(self) -> None:
        self.size = 0


class _Answers(list[Any]):
    """The answers of one system.multicall.

    Its results count until it is deleted: it has been encoded, or its caller is gone.

    Args:
        all_results: of all of them.
    """

    def __init__(self, all_results: _Results) -> None:
        super().__init__()
        self._all = all_results
        self._size = 0

    def check_room(self, size: int) -> None:
        """Check that one more call may be made, or that its result of ``size`` bytes may be added.

        Raises:
            BadRequest: these answers, or those of all callers together, are as long as allowed.
        """
        if self._size >= MAX_ANSWERS:
            raise BadRequest(f"the answers before it have {MAX_ANSWERS} bytes already: call again, with fewer")
        if self._all.size >= MAX_RESULTS and self._size + size > FREE_RESULTS:
            raise BadRequest("too many long answers of system.multicall are waiting; try again")

    def hold(self, size: int) -> None:
        """Count the bytes of a result that is added."""
        self._size += size
        self._all.size += size

    def __del__(self) -> None:
        self._all.size -= self._size


async def _sleep(_began: float) -> float:
    await asyncio.sleep(0)
    return monotonic()


def _no_argument(params: Sequence[Any]) -> None:
    """Accept no argument, or a dictionary, which is ignored (seed: "argument format")."""
    if len(params) > 1 or (params and not isinstance(params[0], dict)):
        raise BadParams("expected no argument, or a dictionary, which is ignored")


def _method_name(params: Sequence[Any]) -> str:
    name = params[0] if len(params) == 1 else None
    if isinstance(name, dict):
        name = name.get("data")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_METHOD_NAME:
        raise BadParams(f"expected a method's name, or {{'data': name}}, of 1 to {MAX_METHOD_NAME} characters")
    return name


def _read_inner_call(call: Any) -> tuple[str, list[Any]]:
    if not isinstance(call, dict):
        raise BadRequest(f"a call is {{'methodName': …, 'params': …}}, not {type(call).__name__}")
    method, params = call.get("methodName"), call.get("params", [])
    if not isinstance(method, str) or not isinstance(params, list):
        raise BadRequest("a call has methodName, a string, and params, an array")
    if method == "system.multicall":
        raise BadRequest("system.multicall does not nest")
    return method, params
