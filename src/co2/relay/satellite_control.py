"""Requests of this relay to its satellites, for a person at its machine: one at a time to each, all checked.

Whoever calls this has checked that the person is at the relay's own machine. Satellites may be hostile: their
answers are accepted only in the form of :mod:`co2.protocol.wire.relay_requests`.
"""

import asyncio
import logging
from collections import Counter
from typing import Any, TypeVar

import msgspec

from co2.errors import CallTimeout, NoSuchMethod, NotCallable, ParseError, PeerError, RemoteFault, Unreachable
from co2.log_repeats import RecentlyLogged
from co2.logs import LineBudgets
from co2.protocol.relay.away import AwayBook
from co2.protocol.relay.names import NameBook
from co2.protocol.wire.relay_requests import (
    DROP_DEAD_LETTERS,
    GET_DEAD_LETTERS,
    GET_LOG,
    GET_PACKAGES,
    RELOAD,
    REPEAT_DEAD_LETTER,
    Count,
    LetterPart,
    LogPart,
    PackageList,
    PackageReport,
    RelayRequest,
)
from co2.relay.host_lookup import linked_member
from co2.relay.members import Members
from co2.relay.satellite_calls import SatelliteCalls

__all__ = ["MAX_TO_ONE", "MAX_UNDER_WAY", "SatelliteControl"]

MAX_TO_ONE = 8
"""Requests to one satellite: one is under way, the others wait for it; one more is refused."""

MAX_UNDER_WAY = 32
"""Requests to all satellites, those that wait included; one more is refused."""

Answer = TypeVar("Answer")

_logger = logging.getLogger("co2.relay")


class SatelliteControl:
    """Makes the requests. Used in the event loop.

    Args:
        members: the connected members.
        away: the satellites that are away.
        names: of all hosts.
        calls: over links.
    """

    def __init__(self, members: Members, away: AwayBook, names: NameBook, calls: SatelliteCalls) -> None:
        self._members = members
        self._away = away
        self._names = names
        self._calls = calls
        self._lines = LineBudgets()
        self._told = RecentlyLogged()
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: Counter[str] = Counter()

    def host_id(self, host: str) -> str:
        """Return the host_id of the linked satellite that a person names.

        Raises:
            PeerError: see :func:`~co2.relay.host_lookup.linked_member`.
        """
        return str(linked_member(self._members, self._away, self._names, host).host_id)

    def name(self, host: str) -> str:
        """Return the name of the linked satellite that a person names; its origin if it has none.

        Raises:
            PeerError: see :func:`~co2.relay.host_lookup.linked_member`.
        """
        member = linked_member(self._members, self._away, self._names, host)
        return member.name or member.host_id.origin

    async def packages(self, host: str, after: str, asker: str) -> PackageList:
        """Return the status of a satellite's packages, by name, as many as fit.

        Args:
            host: the satellite, as a person names it.
            after: only packages behind this name; '' for all.
            asker: who asks, for the logs.

        Raises:
            PeerError: see :meth:`_ask`; the same holds for the other requests.
        """
        argument = {"after": after} if after else {}
        return await self._ask(host, GET_PACKAGES, argument, asker, PackageList)

    async def log(self, host: str, package: str, after: int, maximum: int, asker: str) -> LogPart:
        """Return lines of a package's log: of the last ``maximum`` ones after a number the first that fit."""
        argument = {"package": package, "after": after, "max": maximum}
        return await self._ask(host, GET_LOG, argument, asker, LogPart)

    async def dead_letters(
        self, host: str, package: str | None, after: int, maximum: int, asker: str, *, newest: bool = False
    ) -> LetterPart:
        """Return dead letters, oldest first.

        Args:
            host: the satellite, as a person names it.
            package: only those of this package; None for all.
            after: only those with a higher id.
            maximum: number of letters.
            asker: who asks.
            newest: the last ones of a package, whatever ``after`` is.
        """
        argument: dict[str, Any] = {"after": after, "max": maximum, "newest": newest}
        if package is not None:
            argument["package"] = package
        return await self._ask(host, GET_DEAD_LETTERS, argument, asker, LetterPart)

    async def reload(self, host: str, package: str, asker: str, *, fresh: bool = False) -> PackageReport:
        """Make a satellite load the new code of a package that it has loaded; return the package's status."""
        return await self._ask(host, RELOAD, {"package": package, "fresh": fresh}, asker, PackageReport)

    async def repeat_dead_letter(self, host: str, letter_id: int, asker: str) -> None:
        """Pass a dead letter to its plugin once more."""
        await self._ask(host, REPEAT_DEAD_LETTER, {"id": letter_id}, asker, bool)

    async def drop_dead_letters(self, host: str, up_to: int, package: str | None, asker: str) -> int:
        """Delete dead letters up to an id, or only those of a package; return how many."""
        argument: dict[str, Any] = {"up_to": up_to} if package is None else {"up_to": up_to, "package": package}
        count: int = await self._ask(host, DROP_DEAD_LETTERS, argument, asker, Count)
        return count

    async def _ask(
        self, host: str, request: RelayRequest, argument: dict[str, Any], asker: str, form: type[Answer]
    ) -> Answer:
        """Make a request when the one before it is done, and check the answer.

        Raises:
            UnknownHost: there is no such satellite, or there are several.
            Unreachable: it is away, its link has ended, or too many requests wait.
            CallTimeout: no answer in time.
            NotCallable: it has no link, or its version of co2 knows no requests.
            ParseError: the answer has another form, or is too long.
            RemoteFault: the satellite refused.
        """
        member = linked_member(self._members, self._away, self._names, host)
        peer = member.peer
        if peer is None:
            raise NotCallable(f"{member.label} has no link to this relay: it is no satellite of co2")
        name = member.label
        what = _shown(request, argument)
        self._check_room(name)
        if request.controls or self._told.is_new((asker, name, what)):
            self._tell(request, name, "%s asks %s: %s", asker, name, what)
        self._users[name] += 1
        lock = self._locks.setdefault(name, asyncio.Lock())
        try:
            async with asyncio.timeout(request.timeout):
                await lock.acquire()
            try:
                found = await self._calls.ask(peer, request, argument, asker)
            finally:
                lock.release()
            return msgspec.convert(found, form)
        except TimeoutError:
            self._tell(request, name, "%s at %s failed: another request to it took too long", what, name)
            raise CallTimeout(f"{name}, where another request is under way,", request.timeout) from None
        except msgspec.ValidationError as error:
            self._tell(request, name, "%s at %s failed: the answer is not one: %s", what, name, str(error)[:200])
            raise ParseError(f"{name}: not an answer to {request.name}: {str(error)[:200]}") from None
        except PeerError as error:
            self._tell(request, name, "%s at %s failed: %s", what, name, str(error))
            raise _worded(error, name) from None
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._locks[name]

    def _check_room(self, name: str) -> None:
        if self._users[name] >= MAX_TO_ONE:
            raise Unreachable(f"{name}: {MAX_TO_ONE} requests to it wait already; try again")
        if self._users.total() >= MAX_UNDER_WAY:
            raise Unreachable(f"{name}: {MAX_UNDER_WAY} requests to satellites wait already; try again")

    def _tell(self, request: RelayRequest, name: str, words: str, *values: object) -> None:
        """Log a line; what changes something has a budget of its own, so that reading does not use it up."""
        self._lines.tell(_logger)
        self._lines.log(_logger, logging.INFO, f"{request.name} at {name}", words, *values)


def _shown(request: RelayRequest, argument: dict[str, Any]) -> str:
    """Return a request as text for the log: its name, and what it is about."""
    about = [f"{key} {argument[key]!r:.70}" for key in ("package", "id", "up_to") if key in argument]
    return " ".join([request.name, *about])


def _worded(error: PeerError, name: str) -> PeerError:
    """Return an error of a satellite with its name; for one that knows no requests, what helps."""
    if not isinstance(error, RemoteFault):
        return error
    if error.code == NoSuchMethod.code:
        return NotCallable(
            f"{name} runs a version of co2 that cannot be managed through its relay; use the command on its own "
            "machine, or update it"
        )
    return RemoteFault(error.code, f"{name}: {error.text}")
