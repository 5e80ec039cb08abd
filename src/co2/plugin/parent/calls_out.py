"""Queries of a package's plugins to the network, at the parent: each one is answered."""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from co2.errors import (
    BadParams,
    CallTimeout,
    InternalError,
    NotRunning,
    PeerError,
    TooBig,
    Unreachable,
    ValueRefused,
)
from co2.protocol.wire.plugin_frames.frames import Answered, Ask, AskHosts, Host, Hosts, text_for_frame
from co2.tasks import TaskSet
from co2.values import pack_value, unpack_value

if TYPE_CHECKING:
    from co2.plugin.parent.process import Child

__all__ = ["MAX_ASKED", "CallsOut", "NetworkQueries", "NoNetwork"]

MAX_ASKED = 300
"""Calls of one package that may be under way: slightly more than a child allows its plugins."""

PART = 256 * 1024
"""Bytes of names after which a list of hosts is split."""

_NOTHING = b"\xc0"

_logger = logging.getLogger("co2.plugins")


class NetworkQueries(Protocol):
    """The network as plugins can query it: methods anywhere, and the hosts in it."""

    async def call(self, method: str, host_id: str, argument: dict[str, Any], timeout: float) -> Any:
        """Call a method.

        Args:
            method: name of the method.
            host_id: of the host; '' for the host that has the method.
            argument: for the method.
            timeout: seconds to wait for the result.

        Raises:
            PeerError: the call failed.
        """

    def hosts(self) -> Sequence[Host]:
        """Return the satellites of the network, one's own first."""


class NoNetwork:
    """A network without hosts: no calls are possible."""

    async def call(self, method: str, host_id: str, argument: dict[str, Any], timeout: float) -> Any:
        """Raise Unreachable."""
        raise Unreachable(f"{method}: these plugins are not connected to a network")

    def hosts(self) -> Sequence[Host]:
        """Return no hosts."""
        return ()


class CallsOut:
    """The queries of one child."""

    def __init__(self) -> None:
        self._tasks = TaskSet(_logger, "a call of a plugin")
        self._greets = False

    def take(self, child: "Child", frame: Ask | AskHosts, network: NetworkQueries) -> None:
        """Answer a query of the child from the network."""
        if isinstance(frame, AskHosts):
            self._take_hosts(child, frame.call_id, network.hosts())
        elif len(self._tasks) >= MAX_ASKED:
            text = f"{frame.method}: too many calls of this package are in progress"
            child.send(Answered(frame.call_id, _NOTHING, Unreachable.code, text))
        else:
            self._tasks.start(self._answer(child, frame, network))

    def tell(self, child: "Child", joined: Sequence[Host], left: Sequence[Host]) -> None:
        """Send the child the hosts that have joined and left, if its plugins want them."""
        if not self._greets:
            return
        for part in _parts(joined, 0):
            child.send(part)
        for part in _parts(left, 0):
            child.send(Hosts(0, [], part.hosts))

    def cancel(self) -> None:
        """Cancel all queries: the child has ended."""
        self._greets = False
        self._tasks.cancel()

    def _take_hosts(self, child: "Child", call_id: int, hosts: Sequence[Host]) -> None:
        if not call_id:
            self._greets = True
            self.tell(child, [host for host in hosts if not host.own], ())
            return
        for part in _parts(hosts, call_id):
            child.send(part)

    @staticmethod
    async def _answer(child: "Child", ask: Ask, network: NetworkQueries) -> None:
        child.send(await _answered(ask, network))


async def _answered(ask: Ask, network: NetworkQueries) -> Answered:
    try:
        argument = unpack_value(ask.argument)
        assert isinstance(argument, Mapping)
        async with asyncio.timeout(ask.timeout):
            value = await network.call(ask.method, ask.host_id, dict(argument), ask.timeout)
        return Answered(ask.call_id, pack_value(value))
    except TimeoutError:
        return _failed(ask, CallTimeout.code, f"no answer within {ask.timeout:g} s")
    except (ValueRefused, TooBig) as error:
        return _failed(ask, BadParams.code, f"{ask.method}: bad result: {error}")
    except PeerError as error:
        return _failed(ask, error.code, str(error))
    except NotRunning as error:
        return _failed(ask, Unreachable.code, str(error))
    except Exception as error:
        _logger.exception("a call of a plugin failed")
        return _failed(ask, InternalError.code, f"{ask.method}: the satellite failed: {type(error).__name__}")


def _failed(ask: Ask, code: int, text: str) -> Answered:
    return Answered(ask.call_id, _NOTHING, code, text_for_frame(text)[:4096])


def _parts(hosts: Sequence[Host], call_id: int) -> Iterator[Hosts]:
    """Split a list of hosts so that each part fits a frame; an answer has at least one part."""
    part: list[Host] = []
    size = 0
    for host in hosts:
        more = len(host.host_id) + sum(map(len, host.methods)) + sum(map(len, host.plugins))
        if part and size + more > PART:
            yield Hosts(call_id, part, more=True)
            part, size = [], 0
        part.append(host)
        size += more
    if part or call_id:
        yield Hosts(call_id, part)
