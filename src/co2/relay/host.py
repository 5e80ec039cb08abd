"""The relay as a host: its server, its methods, its pages."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any

from co2 import __version__
from co2.config import RelayConfig
from co2.errors import NotCallable, StorageFailed, UnknownHost, Unreachable
from co2.host_id import HostId
from co2.host_name import host_label
from co2.protocol.relay.last_values import MAX_OF_SOURCE, MAX_VALUES
from co2.protocol.relay.receipts import ReceiptKey
from co2.relay.away_words import away_words
from co2.relay.control_methods import ControlMethods
from co2.relay.host_lookup import origin_meant
from co2.relay.json_routes import JsonRoutes
from co2.relay.live_viewers import LiveViewers
from co2.relay.log_lines import LogLines
from co2.relay.member_keeper import MemberKeeper
from co2.relay.member_methods import MemberMethods
from co2.relay.members import Member
from co2.relay.message_methods import FETCH_MAX, FETCH_WAIT, MessageMethods
from co2.relay.method_lookup import member_having
from co2.relay.plugins import RelayPlugins
from co2.relay.relay import RelayRole
from co2.relay.satellite_control import SatelliteControl
from co2.relay.value_methods import ValueMethods
from co2.relay.view import RelayView
from co2.relay.why_methods import WhyMethods
from co2.server.express import loop as express
from co2.server.express.relay_forecast import RelayForecast
from co2.server.host import CALL_TIMEOUT, RoleHost
from co2.server.http.limits import Limits
from co2.server.process.fd_limit import SPARE_FILES, allow_files
from co2.server.process.local_address import local_ip
from co2.server.process.run import Foundation
from co2.server.rpc.arguments import one_dict
from co2.server.rpc.method_call import check_foreign
from co2.sources import source_of
from co2.store.member_store import MEMBERS_FILE
from co2.store.relay_log import RelayLog
from co2.values import MAX_MESSAGE_SIZE
from co2.xmlrpc.answers import RESULT
from co2.xmlrpc.client import RpcClient
from co2.xmlrpc.registry import Caller

__all__ = ["RelayHost"]

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
    "last": [["struct"], ["struct", "struct"]],
    "forget_last": [["int", "struct"]],
    "why": [["struct", "struct"]],
}


class RelayHost(RoleHost):
    """Wires the relay, its registry and the server.

    Args:
        config: checked configuration.
        foundation: state folder and listening socket.
    """

    plugins: RelayPlugins
    _config: RelayConfig

    def __init__(self, config: RelayConfig, foundation: Foundation) -> None:
        super().__init__(config, foundation)
        self._host_id = HostId(foundation.state.origin, local_ip(config.bind, "192.0.2.1"), foundation.port)
        self._ending = foundation.ending
        self._client = RpcClient()
        loop = asyncio.get_running_loop()
        self.log = RelayLog.open(
            foundation.state.path / LOG_FILE,
            max_bytes=config.log_bytes,
            max_age=config.log_age,
            window=config.durability,
            now=time.monotonic,
            wall=time.time,
            on_commit=self._committed,
            on_failed=self._log_failed,
            on_room=self._has_room,
            soon=loop.call_soon,
            later=partial(_call_in, loop),
        )
        if self.log.replaced:
            _logger.error("a new log was started: %s", self.log.replaced)
        if config.pages is not None:
            if config.pages.is_dir():
                _logger.info("the pages in %s are served at /pages/", config.pages)
            else:
                _logger.warning("pages: there is no folder %s; make it, and no restart is needed", config.pages)
        _allow_files(config.max_sats)
        self._keeper = MemberKeeper.open(foundation.state.path / MEMBERS_FILE, self.log.address_of)
        relay = self.relay = RelayRole(
            config,
            self._client,
            self.log,
            str(self.host_id),
            self.dispatch,
            keeper=self._keeper,
            receipts=ReceiptKey(foundation.state.secret),
        )
        self.plugins = relay.plugins = RelayPlugins(
            config,
            foundation.state.path,
            host_id=self.host_id,
            core=relay.core,
            links=relay.links,
            members=relay.members,
            waiters=relay.waiters,
            calls=self.calls,
            registry=self.registry,
        )
        packages = self.plugins.supervisor.packages
        express.use(
            lambda: RelayForecast(relay.core, relay.links.wires, self.log.pass_over, packages), relay.clock
        )
        self._members = MemberMethods(relay, relay.members, relay.links, relay.core, self.log, turns=self.turns)
        self._messages = MessageMethods(
            relay.core,
            relay.links.driver.flush,
            self.log,
            members=relay.members,
            reader=relay.reader,
            live=relay.live,
            waiters=relay.waiters,
            now=relay.now,
            turns=self.turns,
        )
        self._control = SatelliteControl(relay.members, relay.away, relay.core.names, relay.links.calls)
        self._values = ValueMethods(
            relay.core,
            self.log,
            reads=relay.links.value_reads,
            waiters=relay.waiters,
            reader=relay.reader,
            turns=self.turns,
        )
        self._why = WhyMethods(relay.core, self.log, reader=relay.reader, waiters=relay.waiters, turns=self.turns)
        relay.core.fan_out.last_values.overfull = self._overfull
        self._add_methods()
        self._lines = lines = LogLines(self.log, relay.reader, relay.waiters, self.turns)
        routes = JsonRoutes(
            self._messages,
            self._members,
            self._values,
            self._why,
            lines=lines,
            long=self.routes.long,
            host_id=lambda: str(self.host_id),
        )
        self._viewers = LiveViewers(
            self.log,
            relay.reader,
            self.turns,
            routes=self.routes,
            messages=self._messages,
            about=self._about,
            listen=partial(relay.listen_to_live, "viewers"),
            on_news=relay.on_news,
        )
        self._serve(
            RelayView(self, relay, self._host_id.ip),
            links=relay.links.open,
            gives_way=relay.waiters.give_way,
            door=routes.handlers(),
            live=self._viewers.endpoint(),
            elsewhere="it is a relay",
            far=self._control,
            own_pages=config.pages,
        )

    @property
    def host_id(self) -> HostId:
        """The relay's host_id."""
        return self._host_id

    @property
    def name(self) -> str:
        """The relay's name."""
        return self.relay.core.name

    @property
    def ready_line(self) -> str:
        """``ready relay <host_id> <url>``."""
        return f"ready relay {self.host_id} http://{str(self.host_id).partition('@')[2]}"

    async def start(self) -> None:
        """Load relay plugins first, so that they filter all messages; then serve."""
        await self.plugins.start(self.host_id.port)
        self.relay.start()
        await self.server.start(self._sock)

    async def stop(self) -> None:
        """Stop accepting messages, then stop plugins, links and the server."""
        self.server.stop_listening()
        await self.relay.take_no_more()
        await self.plugins.stop()
        await self.relay.stop()
        await self._viewers.stop()
        await self.server.stop()
        self._lines.close()
        self.routes.long.close()
        await self._client.close()
        await self._keeper.close()
        await asyncio.to_thread(self.log.close)

    def _about(self) -> dict[str, Any]:
        """Return what a viewer gets first."""
        return {
            "host_id": str(self.host_id),
            "version": __version__,
            "log_id": self.log.log_id,
            "position": self.log.committed,
        }

    def problems(self) -> list[str]:
        """Return the fault of this relay's disk, as one line; empty if there is none."""
        return [self.log.problem] if self.log.problem else []

    def _own_properties(self) -> dict[str, Any]:
        config = self._config
        return {
            "satellites": len(self.relay.members),
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

    def _own_counters(self) -> dict[str, int]:
        relay, core = self.relay, self.relay.core
        totals = relay.members.totals()
        transit = self.plugins.transit()
        return {
            "relayed": self._messages.relayed + self.plugins.published + relay.relayed,
            "delivered": totals.sent,
            "refused": totals.refused,
            "repeats": self._messages.repeats + totals.repeats,
            "gaps": totals.gaps,
            "live_dropped": totals.live_dropped,
            "dropped_satellites": relay.dropped_members,
            "takeovers": core.takeovers.count,
            "impostors": core.impostors,
            "links_gave_way": core.gave_way,
            "origins": len(core.origins),
            "origins_unrecorded": core.origins.unrecorded,
            "reused_numbers": relay.links.reused_numbers,
            "log_bytes": self.log.size,
            "backlog_bytes": self.log.backlog,
            "damaged": self.log.damaged,
            "last_values": len(core.fan_out.last_values),
            "last_values_dropped": core.fan_out.last_values.dropped,
            "bytes_written": self.log.written,
            "clock_jumps": self.log.ran.jumps,
            "position": relay.log.last,
            "on_disk": relay.log.committed,
            "passage_bytes": core.filter_chain.bytes,
            "dropped_by_plugins": transit["dropped"],
            "passed_by_plugins": transit["passed_by"],
            "lost_of_plugins": self.plugins.lost,
            **relay.links.counted(),
        }

    def _add_methods(self) -> None:
        members, messages, values = self._members, self._messages, self._values
        for handler in (
            *(members.register, members.unregister, messages.relay, messages.fetch),
            *(members.get_satellites, members.forget, values.last, values.forget_last, self._why.why),
        ):
            name = handler.__name__
            self.registry.add(f"relay.{name}", handler, help=handler.__doc__ or "", signatures=_SIGNATURES[name])
        ControlMethods(self._control).add_to(self.registry)
        self.registry.elsewhere = self._passed_on

    def _committed(self, position: int) -> None:
        self.relay.committed(position)

    def _overfull(self, address: str) -> None:
        """Report that channels are too many to keep the last value of each."""
        who = (
            f"senders at {address} use more than {MAX_OF_SOURCE} channels"
            if address
            else f"more than {MAX_VALUES} channels are used"
        )
        self.relay.say(logging.WARNING, address, "%s: those used longest ago have no last value any more", who)

    def _has_room(self) -> None:
        self.relay.links.driver.has_room()

    def _log_failed(self, why: str) -> None:
        """End the process, because nothing can be acknowledged; its supervisor can restart it on a sound disk."""
        self.relay.waiters.fail(StorageFailed(f"the relay's disk failed: {why}"))
        self._ending.give_up(f"the log's disk failed: {why}")

    def _methods_elsewhere(self) -> Iterator[tuple[str, Sequence[str]]]:
        for member in list(self.relay.members):
            yield str(member.host_id), member.methods

    async def _call_elsewhere(
        self, host: str | None, method: str, argument: dict[str, Any], caller: Caller
    ) -> Any:
        if host is None:
            member = self._member_having(method)
        else:
            host_id = HostId.parse(host)
            gone = self.relay.away.get(host_id.origin)
            if gone is not None and self.relay.members.get(host_id.origin) is None:
                label = host_label(self.relay.core.names.get(gone.origin), gone.host_id)
                raise Unreachable(f"{label} {away_words(gone, self.relay.away)}")
            member = self.relay.members.find(host_id)
        params = [argument] if argument else []
        return await self._call_member(member, method, params, caller)

    def _host_meant(self, word: str) -> str:
        """Return the host_id of a host given by its name or origin, or by the beginning of one.

        Raises:
            Ambiguous: it can mean several hosts.
            UnknownHost: it means no host, or one that has not been here for long.
        """
        origin = origin_meant(self.relay.core.names, self.relay.away, word)
        if origin == self._host_id.origin:
            return str(self._host_id)
        found = self.relay.members.get(origin) or self.relay.away.get(origin)
        if found is None:
            name = self.relay.core.names.get(origin)
            raise UnknownHost(f"{name} is known here, but not connected, nor among those that left lately")
        return str(found.host_id)

    def _member_having(self, method: str) -> Member:
        relay = self.relay
        return member_having(relay.members, relay.away, relay.core.names, relay.now(), method)

    async def _passed_on(self, method: str, params: list[Any], caller: Caller) -> Any:
        """Call a method that this host does not have on the one member that has it."""
        member = self._member_having(method)
        if member.peer is not None and params:
            params = [one_dict(params)]
        return await self._call_member(member, method, params, caller)

    async def _call_member(self, member: Member, method: str, params: list[Any], caller: Caller) -> Any:
        if member.kind == "watcher":
            raise NotCallable(f"{member.label} registered without a port: it only fetches")
        if member.peer is not None:
            # Each link counts as one caller, over XML-RPC each address; the relay's plugins count as one together.
            who: Hashable = (caller.address, caller.port) if caller.over_link else source_of(caller.address)
            return await self.relay.links.calls.call(
                member.peer,
                method,
                params[0] if params else {},
                CALL_TIMEOUT,
                caller=who if caller.port else None,
                who=caller.address,
                written=caller.takes_xml,
            )
        check_foreign(method)
        return await self._client.call(member.url, method, *params, timeout=CALL_TIMEOUT, limit=RESULT)


def _call_in(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> None:
    """Call a function in the thread of an event loop."""
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(what)


def _allow_files(max_sats: int) -> None:
    """Allow a file for every satellite besides those for XML-RPC."""
    others = Limits().max_connections + SPARE_FILES
    allowed = allow_files(max_sats + others)
    if allowed < max_sats + SPARE_FILES:
        _logger.warning(
            "max_sats is %d, but this process may open only %d files, one for each connection (ulimit -Hn)",
            max_sats, allowed,
        )  # fmt: skip
