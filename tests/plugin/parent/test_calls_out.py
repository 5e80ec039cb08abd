"""What plugins call: methods anywhere, in their own thread and beside it, and what comes instead of a result."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from co2.errors import (
    Ambiguous,
    BadParams,
    CallRefused,
    CallTimeout,
    InternalError,
    NoSuchMethod,
    NotRunning,
    PeerError,
    PluginFailed,
)
from co2.plugin.child import calls
from co2.plugin.child.calls import OutgoingCalls
from co2.plugin.parent.calls_out import PART, _parts
from co2.plugin.parent.supervisor import Supervisor
from co2.protocol.wire.plugin_frames.frames import Answered, Ask, Host, Hosts, encode_frame
from tests.plugin.support import Carrier, Settings, carrying, write_package

CALLER = """
from co2.plugin import errors

class X_Caller(plugin.Co2Plugin):
    def x_call(self, data_dict):
        arguments = data_dict["data"]
        try:
            return self.call(**arguments)
        except Exception as error:
            return [type(error).__name__, str(error)]

    def x_own(self, data_dict):
        return data_dict

    async def x_async(self, data_dict):
        import asyncio
        one = self.call_async("ham.other.echo", 1)
        two = self.call_async("ham.other.echo", 2)
        try:
            await self.call_async("ham.spam.own", 3)
        except errors.CallRefused as error:
            return [*await asyncio.gather(one, two), str(error)]
"""
OTHER = """
import threading

class X_Other(plugin.Co2Plugin):
    def x_echo(self, data_dict):
        return data_dict

    def x_raise(self, data_dict):
        raise ValueError("nih")

    def x_from_a_thread(self, data_dict):
        got = []
        thread = threading.Thread(target=lambda: got.append(self.call("ham.spam.own", "from a thread")))
        thread.start()
        thread.join()
        return got

    def x_hosts(self, data_dict):
        return [[host.host_id, host.own, len(host.methods), host.plugins] for host in self.hosts()]
"""


class Network:
    """Calls what the supervisor has; the rest of the world is given."""

    def __init__(self) -> None:
        self.supervisor: Supervisor | None = None
        self.calls: list[tuple[str, str, dict[str, Any], float]] = []
        self.world: dict[str, Any] = {}
        self.there: list[Host] = [Host("own@127.0.0.1:1", own=True)]

    async def call(self, method: str, host_id: str, argument: dict[str, Any], timeout: float) -> Any:
        self.calls.append((method, host_id, argument, timeout))
        if method in self.world:
            found = self.world[method]
            if isinstance(found, Exception):
                raise found
            return await found if asyncio.isfuture(found) else found
        assert self.supervisor is not None
        return await self.supervisor.call(method, argument)

    def hosts(self) -> Sequence[Host]:
        return self.there


def tied(it: Carrier) -> Network:
    network = it.network
    assert isinstance(network, Network)
    network.supervisor = it.supervisor
    return network


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_method_of_another_plugin_is_called_and_its_result_comes_back(tmp_path: Path, isolation: str) -> None:
    async def scenario() -> None:
        spec = write_package(tmp_path, "ham", spam=CALLER, other=OTHER)
        async with carrying([spec], Settings(isolation=isolation), network=Network()) as it:
            network = tied(it)
            found = await it.call(
                "ham.spam.call", {"method": "ham.other.echo", "data": [1, "x"], "channel": "a.b"}
            )
            assert found == {"data": [1, "x"], "channel": "a.b"}
            assert network.calls == [("ham.other.echo", "", {"data": [1, "x"], "channel": "a.b"}, 30.0)]
            assert await it.call("ham.other.from_a_thread") == [{"data": "from a thread"}]
            assert await it.call("ham.spam.call", {"method": "ham.other.echo"}) == {"data": None}
            network.world["eggs.far.away"] = {"far": True}
            arguments = {"method": "eggs.far.away", "host_id": "there@10.0.0.7:1", "timeout": 2}
            assert await it.call("ham.spam.call", arguments) == {"far": True}
            assert network.calls[-1] == ("eggs.far.away", "there@10.0.0.7:1", {"data": None}, 2.0)

    asyncio.run(scenario())


def test_a_plugin_that_calls_itself_is_told_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        spec = write_package(tmp_path, "ham", spam=CALLER, other=OTHER)
        var_dict = {"role": "satellite", "host_id": "me@127.0.0.1:2004"}
        async with carrying([spec], var_dict=var_dict, network=Network()) as it:
            tied(it)
            for host_id in (None, "me@10.0.0.7:2004"):
                arguments = {"method": "ham.spam.own", "host_id": host_id}
                [kind, text] = await it.call("ham.spam.call", arguments)
                assert kind == "CallRefused"
                assert "ham.spam.X_Caller calls itself" in text
                assert "self.x_own(…)" in text

    asyncio.run(scenario())


def test_awaited_calls_run_beside_each_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        spec = write_package(tmp_path, "ham", spam=CALLER, other=OTHER)
        async with carrying([spec], network=Network()) as it:
            tied(it)
            one, two, refused = await it.call("ham.spam.async")
            assert (one, two) == ({"data": 1}, {"data": 2})
            assert "calls itself" in refused

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            NoSuchMethod("a.b"),
            ["NoSuchMethod", "no such method: 'x.y.z'; co2 methods, or system.listMethods, lists the methods"],
        ),
        (BadParams("level: missing"), ["BadParams", "level: missing"]),
        (PluginFailed("it raised"), ["PluginFailed", "it raised"]),
        (Ambiguous("two have it"), ["Ambiguous", "two have it"]),
        (CallTimeout("x", 3), ["CallTimeout", "x.y.z did not answer within 30 s"]),
        (InternalError("ab12"), ["RemoteFault", str(InternalError("ab12"))]),
        (RuntimeError("ours"), ["RemoteFault", "x.y.z: the satellite failed: RuntimeError"]),
    ],
)
def test_what_went_wrong_is_an_error_of_its_own(tmp_path: Path, error: Exception, expected: list[str]) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=CALLER)], network=Network()) as it:
            tied(it).world["x.y.z"] = error
            assert await it.call("ham.spam.call", {"method": "x.y.z"}) == expected

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"method": ""}, "ValueError"),
        ({"method": "x" * 129}, "ValueError"),
        ({"method": "x", "host_id": 3}, "ValueError"),
        ({"method": "x", "timeout": 0}, "ValueError"),
        ({"method": "x", "timeout": float("nan")}, "ValueError"),
        ({"method": "x", "timeout": "soon"}, "ValueError"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(tmp_path: Path, arguments: dict[str, Any], problem: str) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=CALLER)], network=Network()) as it:
            assert (await it.call("ham.spam.call", arguments))[0] == problem

    asyncio.run(scenario())


def test_a_name_that_cannot_travel_is_refused_and_the_plugin_goes_on(tmp_path: Path) -> None:
    code = """
class X_Ham(plugin.Co2Plugin):
    def x_call(self, data_dict):
        found = []
        for arguments in ({"method": "a.\\udc80"}, {"method": "a.b", "host_id": "\\udc80@127.0.0.1:1"}):
            try:
                self.call(**arguments)
            except ValueError as error:
                found.append(str(error))
        return found
"""

    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=code)], network=Network()) as it:
            tied(it)
            found = await it.call("ham.spam.call")
            assert len(found) == 2
            assert all("not valid Unicode" in text for text in found)
            assert it.status("ham").restarts == 0

    asyncio.run(scenario())


def test_a_call_that_takes_too_long_ends_and_the_plugin_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=CALLER)], network=Network()) as it:
            never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            network = tied(it)
            network.world |= {"x.y.never": never, "x.y.now": 3}
            found = await it.call("ham.spam.call", {"method": "x.y.never", "timeout": 0.05})
            assert found == ["CallTimeout", "x.y.never did not answer within 0.05 s"]
            assert await it.call("ham.spam.call", {"method": "x.y.now"}) == 3
            await it.until(never.cancelled, "nobody waits for it at the satellite either")

    asyncio.run(scenario())


def test_without_a_network_nobody_can_be_called(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", spam=CALLER, other=OTHER)]) as it:
            [kind, text] = await it.call("ham.spam.call", {"method": "ham.other.echo"})
            assert (kind, text) == ("Unreachable", "ham.other.echo: these plugins are not connected to a network")
            assert await it.call("ham.other.hosts") == []

    asyncio.run(scenario())


def test_hosts_are_told_in_parts_that_fit_a_frame(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with carrying([write_package(tmp_path, "ham", other=OTHER)], network=Network()) as it:
            network = tied(it)
            network.there += [Host(f"{number}@10.0.0.7:1", ["m" * 128] * 500, ["p.q.X_R"]) for number in range(30)]
            found = await it.call("ham.other.hosts")
            assert [row[0] for row in found] == [host.host_id for host in network.there]
            assert [row[1] for row in found] == [True] + [False] * 30
            assert found[7][2:] == [500, ["p.q.X_R"]]

    asyncio.run(scenario())


def test_calls_under_way_are_bounded_and_their_end_makes_room() -> None:
    sent: list[Any] = []
    book = OutgoingCalls(sent.append)
    first = [book.begin("x.y.z", "", b"\xc0", 1.0, lambda: None) for _ in range(calls.MAX_ASKS)]
    with pytest.raises(CallRefused, match="256 calls"):
        book.begin("x.y.z", "", b"\xc0", 1.0, lambda: None)
    book.forget(first[0])
    book.begin("x.y.z", "", b"\xc0", 1.0, lambda: None)
    assert len(sent) == calls.MAX_ASKS + 1

    big = OutgoingCalls(sent.append)
    one = big.begin("x.y.z", "", b"x" * calls.MAX_ASK_BYTES, 1.0, lambda: None)
    with pytest.raises(CallRefused):
        big.begin("x.y.z", "", b"\xc0", 1.0, lambda: None)
    big.forget(one)
    big.forget(one)
    big.begin("x.y.z", "", b"x" * calls.MAX_ASK_BYTES, 1.0, lambda: None)


def test_answers_that_nobody_waits_for_are_left_alone() -> None:
    sent: list[Any] = []
    book = OutgoingCalls(sent.append)
    woken: list[int] = []
    pending = book.begin("x.y.z", "", b"\xc0", 1.0, lambda: woken.append(1))
    assert isinstance(sent[0], Ask)
    book.take(Answered(pending.call_id + 1, b"\xc0"))
    book.take(Hosts(pending.call_id + 1, []))
    assert not woken
    book.take(Answered(pending.call_id, b"\x03"))
    assert woken == [1]
    assert calls.result_of(pending, "x.y.z", 1.0) == b"\x03"


def test_when_the_satellite_is_gone_nobody_waits_for_an_answer() -> None:
    book = OutgoingCalls(lambda frame: book.close())
    with pytest.raises(NotRunning, match="has ended"):
        book.call("x.y.z", "", b"\xc0", 30.0)
    with pytest.raises(NotRunning, match="has ended"):
        book.hosts(30.0)


def test_a_code_that_is_not_ours_stays_as_it_came() -> None:
    book = OutgoingCalls(lambda frame: None)
    pending = book.begin("x.y.z", "", b"\xc0", 1.0, lambda: None)
    book.take(Answered(pending.call_id, b"\xc0", 17, "theirs"))
    with pytest.raises(PeerError) as caught:
        calls.result_of(pending, "x.y.z", 1.0)
    assert (caught.value.code, str(caught.value)) == (17, "theirs")


def test_a_long_list_of_hosts_is_told_in_parts_that_fit_a_frame() -> None:
    long = [Host(f"{number:016x}@10.0.0.1:2004", ["m" * 1_000] * 10, []) for number in range(3 * PART // 10_000)]
    parts = [*_parts(long, 7)]
    assert [host for part in parts for host in part.hosts] == long
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert len(parts) >= 3
    assert all(len(encode_frame(part)) < 1.1 * PART for part in parts)
