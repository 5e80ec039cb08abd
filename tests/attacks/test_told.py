"""What a satellite tells, of itself or when it is called, is anybody's word: others do not suffer from it."""

import asyncio
import contextlib
import json
import select
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from co2.errors import RemoteFault
from co2.protocol.wire.link_frames import Call, Result, encode_link_frame
from co2.relay.pending_calls import MAX_CALLS_OF_CALLER
from co2.server.rpc.link_calls import MAX_TEXT
from co2.xmlrpc.reader import read_response
from tests.attacks.hosts import running
from tests.attacks.raw import call, call_body, connected, read_reply, request, send
from tests.attacks.raw_link import RawLink
from tests.harness import RECORDER, HostProcess, wait_for, write_plugin

ROW = {
    "name": "p", "state": "running", "load": 1, "code": "c", "last_error": "", "restarts": 0, "dead_letters": 0,
}  # fmt: skip
LETTER = {"id": 1, "at": 0, "plugin": "p.p", "host_id": "x", "reason": "no", "message": {"data": 1}}


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """A relay with an honest satellite."""
    base: Path = tmp_path_factory.mktemp("told")
    write_plugin(base / "satellite", "honest", rec=RECORDER)
    with (
        running(base / "relay", "relay") as host,
        running(base / "satellite", "satellite", "--relay", host.url),
    ):
        wait_for(lambda: "honest" in co2("ps", "--plugins", "--relay", host.url).stdout, "it is there")
        yield host


@contextlib.contextmanager
def liar(relay: HostProcess, answers: Mapping[str, Any] | None, **hello: Any) -> Iterator[None]:
    """Have a satellite there that answers calls with what it likes; with None it does not answer."""

    async def answer() -> None:
        link = await RawLink.joined_as(relay.port, "liar", subscriptions=[], **hello)
        joined.set()
        with contextlib.suppress(EOFError, TimeoutError):
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        call = await link.next(Call)
                    if answers is not None:
                        found = answers.get(call.method)
                        if isinstance(found, RemoteFault):
                            result = Result(call.call_id, b"", found.code, found.text)
                        else:
                            result = Result(call.call_id, msgspec.msgpack.encode(found))
                        await link.told(encode_link_frame(result))
        link.abort()

    joined, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(answer()))
    thread.start()
    try:
        assert joined.wait(20)
        yield
    finally:
        over.set()
        thread.join()


def co2(*args: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "co2", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    "told",
    [
        {"plugins": 5},
        {"plugins": ["p"]},
        {"plugins": [{}]},
        {"plugins": [{**ROW, "state": ["failed"], "load": {}}]},
        {"plugins": [{**ROW, "hangs": "long"}]},
        {"plugins": [{**ROW, "last_error": "E", "last_error_age": "old"}]},
        {"plugins": [{**ROW, "uses": {"memory": "all"}}]},
        {"plugins": [ROW], "counters": {"dead_letters_kept": "many"}},
    ],
)
def test_all_others_are_shown_beside_one_that_tells_nonsense(relay: HostProcess, told: dict[str, Any]) -> None:
    with liar(relay, {"co2.get_properties": told}):
        short = co2("ps", "--relay", relay.url)
        assert (short.returncode, short.stderr) == (0, "")
        assert "2 satellites" in short.stdout
        packages = co2("ps", "--plugins", "--relay", relay.url)
        assert "honest" in packages.stdout
        assert packages.returncode == 1
        assert packages.stderr.startswith("co2: host-liar: ")
        assert len(packages.stderr.splitlines()) == 1


@pytest.mark.parametrize("letters", [5, [5], [{}], [{**LETTER, "id": "first"}], [{"id": 1}]])
def test_dead_letters_of_others_are_shown_beside_nonsense(relay: HostProcess, letters: Any) -> None:
    with liar(relay, {"co2.plugin.get_dead_letters": letters}):
        done = co2("dead-letters", "--url", relay.url)
        assert done.returncode == 1
        assert done.stderr.startswith("co2: host-liar: ")
        assert len(done.stderr.splitlines()) == 1


def test_no_one_speaks_for_another(relay: HostProcess) -> None:
    answers = {
        "co2.get_properties": {"plugins": [{**ROW, "host": "honest", "host_name": "honest"}]},
        "co2.plugin.get_dead_letters": [{**LETTER, "satellite": "honest", "satellite_name": "honest"}],
    }
    with liar(relay, answers):
        packages = json.loads(co2("ps", "--plugins", "--json", "--relay", relay.url).stdout)
        letters = json.loads(co2("dead-letters", "--json", "--url", relay.url).stdout)
    assert "honest" not in {row[key] for row in packages for key in ("host", "host_name")}
    assert {(row["satellite"], row["satellite_name"]) for row in letters} == {("liar@127.0.0.1:9", "host-liar")}


def test_a_command_to_type_is_one_command_whatever_a_package_is_called(relay: HostProcess) -> None:
    name = "p; touch /tmp/pwned #"
    row = {**ROW, "name": name, "state": "failed"}
    with liar(relay, {"co2.get_properties": {"plugins": [row]}}):
        shown = co2("ps", "--relay", relay.url).stdout
        assert f"co2 plugin reload '{name}' --url" in shown


def test_an_answer_that_no_host_of_ours_could_give_is_refused_unread(relay: HostProcess) -> None:
    """Written as XML it would be 80 MB, and take seconds."""
    with liar(relay, {"long": [None] * 4_000_000, "fits": [None] * 700_000}):
        asked = {"host_id": "liar@127.0.0.1:9", "data": 1}
        with pytest.raises(RemoteFault, match=r"liar@\S+ answered with 4000005 bytes; the limit is 737280"):
            call(relay.port, "method_call", {**asked, "method_name": "long"})
        assert len(call(relay.port, "method_call", {**asked, "method_name": "fits"})) == 700_000


def test_an_error_is_no_longer_than_others_may_be(relay: HostProcess) -> None:
    asked = {"host_id": "liar@127.0.0.1:9", "data": 1, "method_name": "fails"}
    with connected(relay.port) as sock, liar(relay, {"fails": RemoteFault(7, "no" * 2_000_000)}):
        send(sock, request(call_body("method_call", asked)))
        reply = read_reply(sock)
    assert reply is not None
    assert len(reply.body) < 2 * MAX_TEXT
    with pytest.raises(RemoteFault) as caught:
        read_response(reply.body)
    assert (caught.value.code, caught.value.text) == (7, "no" * (MAX_TEXT // 2))


def test_a_header_makes_nobody_many_callers(relay: HostProcess) -> None:
    asked = {"host_id": "liar@127.0.0.1:9", "data": 1, "method_name": "silence"}
    body = request(call_body("method_call", asked), "X-Co2-Relayed: 1")
    with liar(relay, None), contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(relay.port, "127.0.0.9")) for _ in range(MAX_CALLS_OF_CALLER + 1)]
        for sock in socks:
            send(sock, body)
        refused, _, _ = select.select(socks, [], [], 15)
        assert refused, "one call more than one caller may have is under way"
        reply = read_reply(refused[0])
        assert reply is not None
        assert b"the limit for one caller" in reply.body
