"""The relay as a host: its server, its methods, its pages."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Hashable
from typing import Any

from co2 import __version__
from co2.config import RelayConfig
from co2.errors import NotCallable, StorageFailed, Unreachable
from co2.host_id import HostId
from co2.protocol.relay.receipts import ReceiptKey
from co2.relay.away_words import away_words
from co2.relay.member_keeper import MemberKeeper
from co2.relay.members import Member
from co2.relay.method_lookup import member_having
from co2.relay.methods import FETCH_MAX, FETCH_WAIT
from co2.relay.plugins import RelayPlugins
from co2.relay.relay import RelayRole
from co2.relay.satellite_page import satellite_page
from co2.relay.view import RelayView
from co2.server.admin.plugin_control import package_row
from co2.server.admin.plugin_methods import plugin_entries
from co2.server.express import loop as express
from co2.server.http.limits import Limits
from co2.server.http.server import HttpServer
from co2.server.process.fd_limit import SPARE_FILES, allow_files
from co2.server.process.info import hardware, software
from co2.server.process.local_address import local_ip
from co2.server.process.run import Foundation
from co2.server.rpc.arguments import one_dict
from co2.server.rpc.method_call import MethodCalls, check_foreign
from co2.sources import source_of
from co2.store.member_store import MEMBERS_FILE
from co2.store.relay_log import RelayLog
from co2.values import MAX_MESSAGE_SIZE
from co2.web.buttons import make_buttons
from co2.web.pages import make_pages
from co2.xmlrpc.answers import RESULT
from co2.xmlrpc.client import RpcClient
from co2.xmlrpc.introspection import add_introspection
from co2.xmlrpc.registry import Caller, Registry

__all__ = ["CALL_TIMEOUT", "RelayHost"]

CALL_TIMEOUT = 30.0
"""Seconds that a call passed on to a satellite may take."""

LOG_FILE = "log.db"
"""Name of the log in the state folder."""

_logger = logging.getLogger("co2.relay")

_SIGNATURES = {
    "register": [["struct", "struct"]],
    "unregister": [["boolean", "struct"]],
    "relay": [["int", "struct"]],
    "fetch": [["struct", "struct"]],
    "get_satellites": [["array"], ["array", "struct"]],
    "forget": [["boolean", "struct"]],
}


class RelayHost:
    """Wires the relay, its registry and the server.

    Args:
        config: checked configuration.
        foundation: state folder and listening socket.
    """

    def __init__(self, config: RelayConfig, foundation: Foundation) -> None:
        self.config = config
        self.registry = Registry()
        self.host_id = HostId(foundation.state.origin, local_ip(config.bind, "192.0.2.1"), foundation.port)
        self._sock = foundation.sock
        self._ending = foundation.ending
        self._started = time.monotonic()
        self._client = RpcClient()
        self._loop = asyncio.get_running_loop()
        self.log = RelayLog.open(
            foundation.state.path / LOG_FILE,
            max_bytes=config.log_bytes,
            max_age=config.log_age,
            window=config.durability,
            now=time.monotonic,
            wall=time.time,
            on_commit=lambda position: self._from_log_thread(lambda: self.relay.committed(position)),
            on_failed=lambda why: self._from_log_thread(lambda: self._log_failed(why)),
            soon=self._loop.call_soon,
            later=self._from_log_thread,
            on_room=self._has_room,
        )
        if self.log.replaced:
            _logger.error("the log is a new one: %s", self.log.replaced)
        _allow_files(config.max_sats)
        self._keeper = MemberKeeper.open(foundation.state.path / MEMBERS_FILE, self.log.address_of)
        self.relay = RelayRole(
            config,
            self._client,
            self.log,
            str(self.host_id),
            self._dispatch,
            keeper=self._keeper,
            receipts=ReceiptKey(foundation.state.secret),
        )
        if config.express:
            express.use(self.relay.links.forecast)
        self._calls = MethodCalls(self.registry, self._is_me, self._call_elsewhere)
        self.plugins = self.relay.plugins = RelayPlugins(
            config,
            foundation.state.path,
            self.relay,
            host_id=self.host_id,
            calls=self._calls,
            changed=self._methods_changed,
        )
        self._add_methods()
        view = RelayView(self)
        self.server = HttpServer(
            registry=self.registry,
            pages=make_pages(view),
            buttons=make_buttons(view),
            limits=Limits(),
            allowed_hosts=config.allowed_hosts,
            access_log=logging.getLogger("co2.access"),
            links=self.relay.links.open,
            gives_way=self.relay.waiters.give_way,
        )

    @property
    def ready_line(self) -> str:
        """``ready relay <host_id> <url>``."""
        return f"ready relay {self.host_id} http://{str(self.host_id).partition('@')[2]}"

    async def start(self) -> None:
        """Load relay plugins, so that no message comes before them; then serve."""
        await self.plugins.start()
        self.relay.start()
        await self.server.start(self._sock)

    async def hangup(self) -> None:
        """Reload every package whose code has changed."""
        await self.plugins.control.reload_changed()

    async def stop(self) -> None:
        """End deliveries and waiting calls, then the server."""
        self.server.stop_listening()
        await self.relay.take_no_more()
        await self.plugins.stop()
        await self.relay.stop()
        await self.server.stop()
        await self._client.close()
        await self._keeper.close()
        await asyncio.to_thread(self.log.close)

    def properties(self, *, here: bool = False) -> dict[str, Any]:
        """Return what co2.get_properties tells; ``here`` says that it is told to somebody on this machine."""
        config = self.config
        return {
            "role": "relay",
            "host_id": str(self.host_id),
            "version": __version__,
            "uptime": round(time.monotonic() - self._started, 3),
            "software": software(),
            "hardware": hardware(),
            "plugins": [package_row(row, here=here) for row in self.plugins.status()],
            "satellites": len(self.relay.members),
            "counters": self.counters(),
            "problems": [self.log.problem] if self.log.problem else [],
            "limits": {
                "max_sats": config.max_sats,
                "log_age": config.log_age,
                "log_bytes": config.log_bytes,
                "durability": config.durability,
                "message_size": MAX_MESSAGE_SIZE,
                "fetch_max": FETCH_MAX,
                "fetch_wait": FETCH_WAIT,
                "check_interval": config.check_interval,
                "drop_after": config.drop_after,
                "fetch_timeout": config.fetch_timeout,
                "notify_timeout": config.notify_timeout,
            },
        }

    def page_of(self, member: Member, *, here: bool) -> tuple[str, str]:
        """Return the URL of a satellite's page, as :func:`satellite_page`."""
        if member.peer is None:
            return "", ""  # a program that is no co2 has no page that we know of
        return satellite_page(member.host_id, member.peer.listens, self.host_id.ip, here=here)

    def counters(self) -> dict[str, int]:
        """Give the numbers that say how messages fared."""
        relay = self.relay
        totals = relay.members.totals()
        transit = self.plugins.transit()
        return {
            "relayed": relay.relayed,
            "delivered": totals.sent,
            "refused": totals.refused,
            "repeats": relay.methods.repeats + totals.repeats,
            "gaps": totals.gaps,
            "live_dropped": totals.live_dropped,
            "dropped_satellites": relay.dropped_members,
            "takeovers": relay.links.core.takeovers.count,
            "impostors": relay.links.core.impostors,
            "links_gave_way": relay.links.core.gave_way,
            "origins": len(relay.links.core.origins),
            "origins_unrecorded": relay.links.core.origins.unrecorded,
            "reused_numbers": relay.links.reused_numbers,
            "log_bytes": self.log.size,
            "backlog_bytes": self.log.backlog,
            "damaged": self.log.damaged,
            "bytes_written": self.log.written,
            "clock_jumps": self.log.ran.jumps,
            "position": relay.log.last,
            "on_disk": relay.log.committed,
            "passage_bytes": relay.links.core.filter_chain.bytes,
            "dropped_by_plugins": transit["dropped"],
            "passed_by_plugins": transit["passed_by"],
            "lost_of_plugins": self.plugins.lost,
            **relay.links.counted(),
            **express.counts()._asdict(),
        }

    def _add_methods(self) -> None:
        add_introspection(self.registry, lambda caller: self.properties(here=caller.is_local))
        self.registry.add(
            "method_call",
            self._calls.method_call,
            help=MethodCalls.method_call.__doc__ or "",
            signatures=[["any", "struct"]],
            aliases=("web.method_call",),
        )
        own = self.relay.methods
        handlers = (own.register, own.unregister, own.relay, own.fetch, own.get_satellites, own.forget)
        for handler in handlers:
            name = handler.__name__
            self.registry.add(f"relay.{name}", handler, help=handler.__doc__ or "", signatures=_SIGNATURES[name])
        self.plugins.control.add_methods(self.registry)
        self.registry.elsewhere = self._passed_on

    def _methods_changed(self) -> None:
        self.registry.replace_group("plugins", plugin_entries(self.plugins.supervisor))

    def _from_log_thread(self, what: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(what)

    def _has_room(self) -> None:
        self.relay.links.has_room()

    def _log_failed(self, why: str) -> None:
        """Nothing is acknowledged any more: end, so that whoever supervises us can start us on a sound disk."""
        self.relay.waiters.fail(StorageFailed(f"the relay's disk does not do its work: {why}"))
        self._ending.give_up(f"the log's disk does not do its work: {why}")

    async def _dispatch(self, method: str, argument: Any, caller: Caller) -> Any:
        return await self.registry.dispatch(method, [argument] if argument else [], caller)

    def _is_me(self, host_id: HostId) -> bool:
        return host_id.origin == self.host_id.origin

    async def _call_elsewhere(
        self, host_id: HostId | None, method: str, argument: dict[str, Any], caller: Caller
    ) -> Any:
        if host_id is None:
            member = member_having(self.relay, method)
        else:
            gone = self.relay.away.get(host_id.origin)
            if gone is not None and self.relay.members.get(host_id.origin) is None:
                raise Unreachable(f"{gone.host_id} {away_words(gone, self.relay.away)}")
            member = self.relay.members.find(host_id)
        params = [argument] if argument else []
        return await self._call_member(member, method, params, caller)

    async def _passed_on(self, method: str, params: list[Any], caller: Caller) -> Any:
        """Call a method that somebody asked for here, and that is not here, on the one member that has it."""
        member = member_having(self.relay, method)
        if member.peer is not None and params:
            params = [one_dict(params)]
        return await self._call_member(member, method, params, caller)

    async def _call_member(self, member: Member, method: str, params: list[Any], caller: Caller) -> Any:
        if member.kind == "fetching":
            raise NotCallable(f"{member.host_id} registered without a port: it only fetches")
        if member.peer is not None:
            # A link is a caller of its own; over XML-RPC an address is, and so are the relay's plugins together.
            who: Hashable = (caller.address, caller.port) if caller.over_link else source_of(caller.address)
            return await self.relay.links.call(
                member.peer,
                method,
                params[0] if params else {},
                CALL_TIMEOUT,
                caller=who if caller.port else None,
                who=caller.address,
                written=caller.port != 0 and not caller.over_link,
            )
        check_foreign(method)
        return await self._client.call(member.url, method, *params, timeout=CALL_TIMEOUT, limit=RESULT)


def _allow_files(max_sats: int) -> None:
    """Have room for every satellite besides what may connect over XML-RPC."""
    others = Limits().max_connections + SPARE_FILES
    allowed = allow_files(max_sats + others)
    if allowed < max_sats + SPARE_FILES:
        _logger.warning(
            "max_sats is %d, but this process may open only %d files, one for each connection (ulimit -Hn)",
            max_sats, allowed,
        )  # fmt: skip
