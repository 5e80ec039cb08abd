"""Requests of the satellite's relay for a person at the relay's machine: each is checked, logged and limited.

The relay has asked already whether the person is at its own machine. The satellite decides too, by its key
``managed``, and answers only what is in :data:`co2.protocol.wire.relay_requests.REQUESTS`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from co2.errors import BadParams, Denied, NoSuchMethod, NotLoadable, Unreachable
from co2.log_repeats import RecentlyLogged
from co2.logs import LineBudgets
from co2.plugin.parent.package_log import preview
from co2.plugin.parent.resource_usage import usage_of
from co2.plugin.parent.status import PackageStatus
from co2.protocol.wire.plugin_frames.frames import PluginInfo
from co2.protocol.wire.relay_requests import (
    DROP_DEAD_LETTERS,
    GET_DEAD_LETTERS,
    GET_LOG,
    GET_PACKAGES,
    MAX_LETTER,
    MAX_LETTERS,
    MAX_LINE,
    MAX_LINES,
    MAX_PART,
    MAX_PLUGINS,
    MAX_REASON,
    MAX_SHOWN_PACKAGES,
    MAX_TEXT,
    RELOAD,
    REPEAT_DEAD_LETTER,
    REQUESTS,
    LogLine,
    LogPart,
    PackageList,
    PackageReport,
    PluginReport,
    RelayRequest,
    ReportedLetter,
    cut,
)
from co2.satellite.dead_letters import DeadLetters, message_of
from co2.server.rpc.arguments import integer, text
from co2.store.dead_letters import StoredLetter
from co2.tasks import TaskSet

__all__ = ["MAX_AT_ONCE", "PackageControl", "RelayRequests"]

MAX_AT_ONCE = 4
"""Requests under way; our relay makes one after the other. Of those that change something there is one at most."""

Item = TypeVar("Item", bound=msgspec.Struct)

_HIGHEST = 2**63 - 1

_logger = logging.getLogger("co2.satellite")


class PackageControl(Protocol):
    """The control of packages as it is needed here."""

    async def reload(self, name: str, *, fresh: bool = False) -> PackageStatus:
        """Load the new code of a package."""


class RelayRequests:
    """Answers the relay's requests. Used in the event loop.

    Args:
        managed: key of the configuration: whether the relay may read and control, only ``read``, or neither.
        control: of the packages.
        status: returns the status of each package.
        log: returns the last lines of a package (after a number, at most so many); None if it is not loaded.
        letters: the dead letters.
    """

    def __init__(
        self,
        managed: bool | str,
        *,
        control: PackageControl,
        status: Callable[[], Sequence[PackageStatus]],
        log: Callable[[str, int, int], list[dict[str, Any]] | None],
        letters: DeadLetters,
    ) -> None:
        self._managed = managed
        self._control = control
        self._status = status
        self._log = log
        self._letters = letters
        self._lines = LineBudgets()
        self._told = RecentlyLogged()
        self._tasks = TaskSet(_logger, "a request of the relay")
        self._under_way = 0
        self._controlling = ""
        self._handlers: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            GET_PACKAGES.name: self._packages,
            GET_LOG.name: self._package_log,
            GET_DEAD_LETTERS.name: self._dead_letters,
            RELOAD.name: self._reload,
            REPEAT_DEAD_LETTER.name: self._repeat_dead_letter,
            DROP_DEAD_LETTERS.name: self._drop_dead_letters,
        }

    async def answer(self, asker: str, method: str, argument: Any) -> Any:
        """Do what the relay asks; return plain values.

        Args:
            asker: who at the relay's machine asks, as the relay says.
            method: name of the request.
            argument: of the request.

        Raises:
            NoSuchMethod: there is no such request.
            Denied: the configuration does not allow it.
            Unreachable: too many requests are under way.
            PeerError: the request failed.
        """
        request = REQUESTS.get(method)
        if request is None or not isinstance(argument, dict):
            raise NoSuchMethod(method)
        what = _shown(request, argument)
        self._check_allowed(request, asker, what)
        self._check_room(request)
        if request.controls or self._told.is_new((asker, what)):
            self._tell(request, "%s at the relay's machine asks: %s", asker, what)
        # A request that has begun is done to its end, also if the relay no longer waits: a reload that stops half
        # way, or a letter that is repeated and not deleted, would be worse than an answer that nobody reads.
        self._under_way += 1
        if request.controls:
            self._controlling = what
        outcome = await asyncio.shield(self._tasks.start(self._done(request, what, argument)))
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def stop(self) -> None:
        """Cancel the requests under way."""
        await self._tasks.stop()

    def _check_allowed(self, request: RelayRequest, asker: str, what: str) -> None:
        if self._managed is True or (self._managed == "read" and not request.controls):
            return
        may, value = "neither read nor change anything", "false"
        if self._managed == "read":
            may, value = "read here, but not change anything", '"read"'
        self._tell(request, "refused to %s at the relay's machine, as managed = %s: %s", asker, value, what)
        raise Denied(
            f"this satellite's relay may {may} (managed = {value} in the satellite's co2.toml; true, the default, "
            "allows it). Type the command on the satellite's own machine"
        )

    def _check_room(self, request: RelayRequest) -> None:
        if request.controls and self._controlling:
            raise Unreachable(f"another request is still under way here: {self._controlling}; try again")
        if self._under_way >= MAX_AT_ONCE:
            raise Unreachable(f"{MAX_AT_ONCE} requests of the relay are already under way here; try again")

    async def _done(self, request: RelayRequest, what: str, argument: dict[str, Any]) -> Any:
        """Execute a request; return its answer, or its error, which is not the task's own."""
        try:
            return await self._handlers[request.name](argument)
        except Exception as error:
            self._tell(request, "%s failed for the relay: %s", what, str(error))
            return error
        finally:
            self._under_way -= 1
            if request.controls:
                self._controlling = ""

    def _tell(self, request: RelayRequest, words: str, *values: object) -> None:
        """Log a line; what changes something has a budget of its own, so that reading does not use it up."""
        self._lines.tell(_logger)
        self._lines.log(_logger, logging.INFO, f"the relay ({request.name})", words, *values)

    # ---- reading -----------------------------------------------------------------------------------------

    async def _packages(self, argument: dict[str, Any]) -> Any:
        after = text(argument, "after", 64) if "after" in argument else ""
        rows = sorted((row for row in self._status() if row.name > after), key=lambda row: row.name)
        reports = [_report(row) for row in rows[:MAX_SHOWN_PACKAGES]]
        fitting = _fitting(reports)
        return msgspec.to_builtins(PackageList(fitting, more=len(fitting) < len(rows)))

    async def _package_log(self, argument: dict[str, Any]) -> Any:
        name = text(argument, "package", 64)
        after = integer(argument, "after", 0, 0, _HIGHEST)
        rows = self._log(name, after, integer(argument, "max", 100, 1, MAX_LINES))
        if rows is None:
            raise NotLoadable(f"plugin package {name!r}: it is not loaded")
        lines = [LogLine(**{**row, "text": cut(row["text"], MAX_LINE)}) for row in rows]
        fitting = _fitting(lines)
        return msgspec.to_builtins(LogPart(fitting, more=len(fitting) < len(lines)))

    async def _dead_letters(self, argument: dict[str, Any]) -> Any:
        after = integer(argument, "after", 0, 0, _HIGHEST)
        maximum = integer(argument, "max", 100, 1, MAX_LETTERS)
        package = text(argument, "package", 64) if "package" in argument else None
        if argument.get("newest") is True and package is not None:
            newest = _letters(await self._letters.last(package, maximum))
            return _part(newest[::-1], more=False)
        found = await self._letters.read(after, maximum, MAX_PART, package)
        return _part(_letters(found), more=bool(found))

    # ---- control -----------------------------------------------------------------------------------------

    async def _reload(self, argument: dict[str, Any]) -> Any:
        name = text(argument, "package", 64)
        fresh = argument.get("fresh", False)
        if not isinstance(fresh, bool):
            raise BadParams("key 'fresh': expected a boolean")
        # Only what its owner has loaded here: the relay brings no other package to life.
        if all(row.name != name for row in self._status()):
            raise NotLoadable(f"plugin package {name!r}: it is not loaded")
        return msgspec.to_builtins(_report(await self._control.reload(name, fresh=fresh)))

    async def _repeat_dead_letter(self, argument: dict[str, Any]) -> Any:
        await self._letters.repeat(integer(argument, "id", -1, 0, _HIGHEST))
        return True

    async def _drop_dead_letters(self, argument: dict[str, Any]) -> Any:
        package = text(argument, "package", 64) if "package" in argument else None
        return await self._letters.drop(integer(argument, "up_to", -1, 0, _HIGHEST), package)


def _shown(request: RelayRequest, argument: dict[str, Any]) -> str:
    """Return a request as text for the log: its name, and what it is about."""
    about = [f"{key} {argument[key]!r:.70}" for key in ("package", "id", "up_to", "fresh") if key in argument]
    return " ".join([request.name, *about])


def _fitting(items: list[Item]) -> list[Item]:
    """Return the first items, as many as fit into one part; at least one."""
    left = MAX_PART
    for number, item in enumerate(items):
        left -= len(msgspec.json.encode(item))
        if left < 0 and number:
            return items[:number]
    return items


def _report(row: PackageStatus) -> PackageReport:
    facts = {name: getattr(row, name) for name in _REPORTED}
    plugins = [_plugin(plugin) for plugin in row.plugins[:MAX_PLUGINS]]
    error = cut(row.last_error, MAX_TEXT - 64)
    return PackageReport(**facts, plugins=plugins, last_error=error, uses=dict(usage_of(row.pid)))


_REPORTED = tuple(
    name for name in PackageReport.__struct_fields__ if name not in ("plugins", "last_error", "uses")
)


def _plugin(plugin: PluginInfo) -> PluginReport:
    most = MAX_TEXT - 64
    return PluginReport(plugin.name, cut(plugin.text, most), cut(plugin.help, most), plugin.receives)


def _letters(found: Sequence[StoredLetter]) -> list[ReportedLetter]:
    """Return the first letters, as many as fit into one part; at least one."""
    letters: list[ReportedLetter] = []
    left = MAX_PART
    for letter in found:
        size = len(letter.message)
        reason = cut(letter.reason, MAX_REASON)
        left -= min(size, MAX_LETTER) + len(reason) + 200
        if left < 0 and letters:
            break
        message = preview(letter.message) if size > MAX_LETTER else message_of(letter)
        letters.append(
            ReportedLetter(letter.id, letter.at, letter.package, letter.plugin, letter.host_id, reason, message)
        )
    return letters


def _part(letters: Sequence[ReportedLetter], *, more: bool) -> dict[str, Any]:
    # Field by field: msgspec.to_builtins would convert bytes and times in the messages to text.
    return {"letters": [msgspec.structs.asdict(letter) for letter in letters], "more": more}
