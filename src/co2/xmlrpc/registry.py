"""The table of all callable methods. Dispatch is an exact look-up: no attribute of any object is ever looked up
by a name that a caller sent.
"""

import inspect
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from co2.errors import NoSuchMethod
from co2.protocol.wire.host_names import is_method_name

__all__ = ["Caller", "Handler", "RegisteredMethod", "Registry"]


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request.

    Attributes:
        address: IP address in normal form.
        port: of the caller's end of the connection.
        relayed: whether a co2 host passed the request on for somebody else; the address is that host's.
        proxied: whether the request came, or may have come, through a proxy; then the address is the proxy's.
        over_link: whether the call came over a link, which no caller can forge.
        over_json: whether the call came as JSON: its result is not encoded as XML.
    """

    address: str
    port: int
    relayed: bool = False
    proxied: bool = False
    over_link: bool = False
    over_json: bool = False

    @property
    def is_local(self) -> bool:
        """Whether the request came from this very machine, over the loopback interface."""
        try:
            return not self.relayed and not self.proxied and ipaddress.ip_address(self.address).is_loopback
        except ValueError:
            return False

    @property
    def is_person_here(self) -> bool:
        """Whether the request came from this very machine over a connection of its own.

        Calls of this host's plugins have no connection, and so no port.
        """
        return self.is_local and not self.over_link and self.port > 0

    @property
    def takes_xml(self) -> bool:
        """Whether the result is encoded as XML, so that parts of it may be encoded already.

        Results for plugins of this host, for links and for the JSON door are not.
        """
        return self.port > 0 and not self.over_link and not self.over_json


Handler = Callable[[Sequence[Any], Caller], Any | Awaitable[Any]]
"""Takes the parameters and the caller; returns the result, or an awaitable of it."""


@dataclass(frozen=True, slots=True)
class RegisteredMethod:
    """One method.

    Attributes:
        handler: called for the method.
        help: text for ``system.methodHelp``.
        signatures: each a list of XML-RPC type names, the result's first.
        describe: returns ``parameters``, ``result`` and ``danger`` of its schema; None if the signatures say all.
    """

    handler: Handler
    help: str
    signatures: list[list[str]]
    describe: Callable[[], Awaitable[Mapping[str, Any]]] | None = None


class Registry:
    """Methods by name. Our own are added one by one, those of plugins are added and removed as a group.

    Attributes:
        elsewhere: calls a method that is not in the table: (name, parameters, caller); None for nobody.
    """

    def __init__(self) -> None:
        self.elsewhere: Callable[[str, list[Any], Caller], Any] | None = None
        self._own: dict[str, RegisteredMethod] = {}
        self._groups: dict[str, dict[str, RegisteredMethod]] = {}
        self._table: dict[str, RegisteredMethod] = {}

    def add(
        self, name: str, handler: Handler, *, help: str, signatures: list[list[str]], aliases: Iterable[str] = ()
    ) -> None:
        """Add a method under its name and aliases: all or none of them.

        Args:
            name: 1 to 128 of ``A-Za-z0-9_.:/-``.
            handler: called for the method.
            help: description for people; a docstring can be passed unchanged.
            signatures: each a list of XML-RPC type names, the result's first.
            aliases: further names.

        Raises:
            ValueError: a name that is in use, or that no method can have.
        """
        entry = RegisteredMethod(handler, inspect.cleandoc(help), signatures)
        added = dict.fromkeys((name, *aliases), entry)
        self._check(added, self._table)
        self._own.update(added)
        self._rebuild()

    def remove(self, name: str) -> None:
        """Remove one name added by :meth:`add`; its aliases stay.

        Raises:
            NoSuchMethod: no method of that name was added.
        """
        if self._own.pop(name, None) is None:
            raise NoSuchMethod(name)
        self._rebuild()

    def replace_group(self, group: str, entries: Mapping[str, RegisteredMethod]) -> None:
        """Replace all methods of a group; callers see the old ones or the new.

        Raises:
            ValueError: a name that is in use outside the group, or that no method can have. Nothing changed.
        """
        others = {name for other, found in self._groups.items() if other != group for name in found}
        self._check(entries, others | self._own.keys())
        self._groups[group] = dict(entries)
        self._rebuild()

    def __contains__(self, name: str) -> bool:
        return name in self._table

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._table)

    def entry(self, name: str) -> RegisteredMethod:
        """Return a method's entry.

        Raises:
            NoSuchMethod: there is no method of that name.
        """
        found = self._table.get(name)
        if found is None:
            raise NoSuchMethod(name)
        return found

    def call(self, method: str, params: list[Any], caller: Caller) -> Any:
        """Call a method; return its result or, if the handler is a coroutine, an awaitable of it.

        Raises:
            NoSuchMethod: there is no method of that name.
            Exception: any error of the handler.
        """
        entry = self._table.get(method)
        if entry is None:
            if self.elsewhere is not None:
                return self.elsewhere(method, params, caller)
            raise NoSuchMethod(method)
        return entry.handler(params, caller)

    async def dispatch(self, method: str, params: list[Any], caller: Caller) -> Any:
        """Call a method as :meth:`call` does, and await the result."""
        result = self.call(method, params, caller)
        return await result if hasattr(result, "__await__") else result

    def _rebuild(self) -> None:
        table = dict(self._own)
        for entries in self._groups.values():
            table.update(entries)
        self._table = table

    @staticmethod
    def _check(entries: Mapping[str, RegisteredMethod], taken: Iterable[str]) -> None:
        for name in entries:
            if not is_method_name(name):
                raise ValueError(f"not a method name: {name!r:.200}")
        both = sorted(set(taken).intersection(entries))
        if both:
            raise ValueError(f"methods with these names already exist: {', '.join(both)}")
