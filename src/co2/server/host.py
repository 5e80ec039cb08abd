"""The common part of the hosts of both roles: methods, a server, plugins, and the data of the pages."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from co2 import __version__
from co2.config import HostConfig
from co2.host_id import HostId
from co2.plugin.parent.status import PackageStatus
from co2.server.admin.host_plugins import HostPlugins
from co2.server.admin.plugin_control import package_row
from co2.server.admin.views import method_rows, package_rows
from co2.server.door.answers import DoorHandler
from co2.server.door.common import CommonRoutes
from co2.server.express import loop as express
from co2.server.http.limits import Limits
from co2.server.http.server import HttpServer
from co2.server.http.websocket_upgrade import LinkHandler, WebSocketEndpoint
from co2.server.process.info import hardware, software
from co2.server.process.run import Foundation
from co2.server.rpc.answer_turns import AnswerTurns
from co2.server.rpc.method_call import MethodCalls
from co2.web.buttons import make_buttons
from co2.web.own_pages import make_own_pages
from co2.web.pages import Renderer, make_pages
from co2.web.satellite_pages import make_satellite_buttons, make_satellite_pages
from co2.web.view import AwayRow, DeadLetterRow, FarSatellites, MethodRow, Numbers, Readiness, SatelliteRow
from co2.xmlrpc.introspection import add_introspection
from co2.xmlrpc.registry import Caller, Registry

__all__ = ["CALL_TIMEOUT", "RoleHost", "RoleView"]

CALL_TIMEOUT = 30.0
"""Seconds that a call on another host may take."""


class RoleHost(ABC):
    """The common base of the hosts of both roles.

    Args:
        config: checked configuration.
        foundation: state folder and listening socket.

    Attributes:
        registry: methods of this host.
        turns: of long answers.
        calls: passes on calls of other hosts and of plugins.
        routes: of the JSON door that both roles have.
        plugins: to be set by the role before :meth:`_serve`.
        server: set by :meth:`_serve`.
    """

    plugins: HostPlugins
    server: HttpServer

    def __init__(self, config: HostConfig, foundation: Foundation) -> None:
        self.registry = Registry()
        self.turns = AnswerTurns(asyncio.get_running_loop())
        self.calls = MethodCalls(self.registry, self._host_meant, self._is_me, self._call_elsewhere)
        self.routes = CommonRoutes(
            self.calls,
            self.registry,
            host_id=lambda: str(self.host_id),
            elsewhere=self._methods_elsewhere,
            properties=lambda here: self.properties(here=here),
            turns=self.turns,
        )
        self._config = config
        self._sock = foundation.sock
        self._started = time.monotonic()

    def _serve(
        self,
        view: "RoleView",
        links: LinkHandler | None = None,
        gives_way: Callable[[str], tuple[str, int] | None] = lambda _source: None,
        *,
        door: Mapping[str, DoorHandler],
        live: WebSocketEndpoint | None = None,
        elsewhere: str,
        far: FarSatellites | None = None,
        own_pages: Path | None = None,
    ) -> None:
        """Add the methods of every host, and create the server.

        Args:
            view: data of its pages.
            links: see :class:`~co2.server.http.server.HttpServer`.
            gives_way: likewise.
            door: handlers of the role's own routes.
            live: see :class:`~co2.server.http.server.HttpServer`.
            elsewhere: see :class:`~co2.server.http.server.HttpServer`.
            far: access to the satellites of a relay, for their pages; None for none.
            own_pages: folder with web pages of the owner's own; None for none.
        """
        add_introspection(self.registry, lambda caller: self.properties(here=caller.is_local), self.turns.pause)
        self.registry.add(
            "method_call",
            self.calls.method_call,
            help=MethodCalls.method_call.__doc__ or "",
            signatures=[["any", "struct"]],
            aliases=("web.method_call",),
        )
        self.plugins.control.add_methods(self.registry)
        renderer = Renderer(view)
        pages, buttons = make_pages(view, renderer), make_buttons(view)
        pages |= make_own_pages(own_pages)
        if far is not None:
            pages |= make_satellite_pages(far, renderer.render)
            buttons |= make_satellite_buttons(far, renderer.render)
        self.server = HttpServer(
            registry=self.registry,
            pages=pages,
            buttons=buttons,
            limits=Limits(),
            allowed_hosts=self._config.allowed_hosts,
            access_log=logging.getLogger("co2.access"),
            links=links,
            gives_way=gives_way,
            turns=self.turns,
            door={**self.routes.handlers(), **door},
            live=live,
            elsewhere=elsewhere,
        )

    @property
    @abstractmethod
    def host_id(self) -> HostId:
        """The current host_id."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The current name, for people."""

    @abstractmethod
    def _own_counters(self) -> dict[str, int]:
        """Return the message counters of this role."""

    @abstractmethod
    def problems(self) -> list[str]:
        """Return faults that need attention besides packages that do not run, one line each."""

    @abstractmethod
    def _own_properties(self) -> dict[str, Any]:
        """Return the properties and limits of this role for co2.get_properties."""

    @abstractmethod
    def _methods_elsewhere(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Yield the host_id of each other host with the names of its methods."""

    @abstractmethod
    def _call_elsewhere(
        self, host: str | None, method: str, argument: dict[str, Any], caller: Caller
    ) -> Awaitable[Any]:
        """Call a method on another host, see :class:`~co2.server.rpc.method_call.MethodCalls`."""

    def properties(self, *, here: bool = False) -> dict[str, Any]:
        """Return the result of co2.get_properties; ``here`` means that the caller is on this machine."""
        return {
            "role": self._config.role,
            "name": self.name,
            "host_id": str(self.host_id),
            "version": __version__,
            "uptime": round(time.monotonic() - self._started, 3),
            "software": software(),
            "hardware": hardware(),
            "plugins": [package_row(row, here=here) for row in self.plugins.status()],
            "counters": self.counters(),
            "problems": self.problems(),
            **self._own_properties(),
        }

    def counters(self) -> dict[str, int]:
        """Return the message counters."""
        return {**self._own_counters(), **express.counts()._asdict()}

    async def hangup(self) -> None:
        """Reload every package whose code has changed."""
        await self.plugins.control.reload_changed()

    async def dispatch(self, method: str, argument: Any, caller: Caller) -> Any:
        """Call a method of this host for the other end of a link."""
        return await self.registry.dispatch(method, [argument] if argument else [], caller)

    def _host_meant(self, word: str) -> str:
        """Return the host_id of a host given by its name, or by the beginning of one.

        Only the relay knows all hosts: a satellite returns what it was given, unless it is meant itself.
        """
        return str(self.host_id) if word in (self.name, self.host_id.origin) else word

    def _is_me(self, host: str) -> bool:
        return host.partition("@")[0] == self.host_id.origin


class RoleView(ABC):
    """The part of :class:`~co2.web.view.HostView` that both roles share.

    Args:
        host: the host to show.
    """

    role = ""
    version = __version__

    def __init__(self, host: RoleHost) -> None:
        self._host = host

    @property
    def name(self) -> str:
        """The current name."""
        return self._host.name

    @property
    def host_id(self) -> str:
        """The current host_id."""
        return str(self._host.host_id)

    def properties(self) -> Mapping[str, Any]:
        """Return the result of co2.get_properties."""
        return self._host.properties()

    def methods(self) -> Sequence[MethodRow]:
        """Return all methods in the registry."""
        return method_rows(self._host.registry)

    def plugins(self) -> Sequence[PackageStatus]:
        """Return every package, including those that are missing or failed to load."""
        return package_rows(self._host.plugins.status())

    async def reload(self, package: str) -> None:
        """Load the code that is in a package's folder now, whether or not the package is loaded."""
        await self._host.plugins.control.load_or_reload(package)

    async def dead_letters(self, package: str, max_letters: int) -> Sequence[DeadLetterRow]:
        """Return nothing: messages that a relay plugin fails on are passed on, not kept."""
        return ()

    async def satellites(self, *, here: bool = False) -> Sequence[SatelliteRow]:
        """Return nothing: only a relay has this page."""
        return ()

    def away(self, at_most: int) -> Sequence[AwayRow]:
        """Return nothing: only a relay has this page."""
        return ()

    def away_states(self) -> Mapping[str, int]:
        """Return nothing: only a relay has this page."""
        return {}

    @abstractmethod
    def readiness(self) -> Readiness:
        """Return the problems that keep the host from being ready."""

    @abstractmethod
    def numbers(self) -> Numbers:
        """Return counters and gauges."""
