"""``method_call``: call any method by name, here or, with a ``host_id``, on another host."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from co2.errors import BadRequest, Denied, NoSuchMethod
from co2.protocol.wire.host_names import MAX_METHOD_NAME
from co2.server.rpc.arguments import host_in, one_dict, text
from co2.xmlrpc.registry import Caller, Registry
from co2.xmlrpc.writer import WrittenValue

__all__ = ["MethodCalls", "check_foreign", "is_reserved"]

_NAMESPACES = ("co2.", "relay.", "system.", "web.")
_OF_EVERY_HOST = frozenset(("method_call", "notify", "ping", "test"))
_HARMLESS = frozenset(
    (
        "ping",
        "test",
        "system.getCapabilities",
        "system.listMethods",
        "system.methodHelp",
        "system.methodSignature",
    )
)

_NOT_THROUGH_HERE = frozenset(("method_call", "web.method_call", "system.multicall"))

_HERE = Caller("127.0.0.1", 0)


def is_reserved(method: str) -> bool:
    """Return whether a name belongs to hosts themselves: it is never looked up among the methods of others."""
    return method.startswith(_NAMESPACES) or method in _OF_EVERY_HOST


def check_foreign(method: str) -> None:
    """Refuse to call a host's own method on a foreign member for somebody else.

    The member may be a co2 host that takes our address for its own machine's, or any other server: it gets no call
    that controls a host, and no ``notify`` that is not from the log.

    Raises:
        Denied: the method is such a one.
    """
    if is_reserved(method) and method not in _HARMLESS:
        raise Denied(f"{method} is not forwarded to members without a link; call it there directly")


class MethodCalls:
    """The handler of ``method_call``.

    Args:
        registry: methods of this host.
        meant: returns the host_id of a host given by its name or the beginning of one, or what it was given if
            only another host knows.
        is_me: returns whether a host_id is this host's.
        elsewhere: calls (method, argument) for a caller on that host, given by its host_id or as ``meant`` returns
            it, or with None on the one other host that has the method; raises NoSuchMethod if there is none.
    """

    def __init__(
        self,
        registry: Registry,
        meant: Callable[[str], str],
        is_me: Callable[[str], bool],
        elsewhere: Callable[[str | None, str, dict[str, Any], Caller], Awaitable[Any]],
    ) -> None:
        self._registry = registry
        self._meant = meant
        self._is_me = is_me
        self._elsewhere = elsewhere

    async def method_call(self, params: Sequence[Any], caller: Caller) -> Any:
        """Call a method by name.

        Takes {method_name, data, host_id?}; the method gets the dictionary without ``method_name`` and
        ``host_id``. With ``host_id`` the call is passed on to that host: its host_id or its name, or enough of
        one's beginning. Without, a method that this host lacks is called on the one other host that has it.
        Returns what the method returns.
        """
        argument = one_dict(params)
        method = text(argument, "method_name", MAX_METHOD_NAME)
        if method in _NOT_THROUGH_HERE:
            raise BadRequest(f"{method} cannot be called through method_call")
        host = host_in(argument) if "host_id" in argument else None
        if host is not None and "@" not in host:
            host = self._meant(host)
        rest = {key: value for key, value in argument.items() if key not in ("method_name", "host_id")}
        if host is not None and not self._is_me(host):
            return await self._elsewhere(host, method, rest, caller)
        if method in self._registry:
            return await self._registry.dispatch(method, [rest] if rest else [], caller)
        if host is not None:
            raise NoSuchMethod(method)
        return await self._elsewhere(None, method, rest, caller)

    async def for_plugin(self, method: str, host_id: str, argument: Mapping[str, Any]) -> Any:
        """Call a method for a plugin of this host; ``host_id`` is '' for the host that has it.

        Raises:
            PeerError: the call failed.
        """
        asked = {**argument, "method_name": method, "host_id": host_id}
        if not host_id:
            del asked["host_id"]
        found = await self.method_call([asked], _HERE)
        return found.value if isinstance(found, WrittenValue) else found
