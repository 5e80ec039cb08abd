"""What a Hello claims of the log and of its own numbers concerns nobody but who says it: on real processes."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import apsw
import psutil
import pytest

from co2.protocol.wire.link_frames import Receipt, Subscription
from tests.attacks.hosts import running
from tests.attacks.test_origins import heard, hello, linked, places
from tests.harness import RECORDER, HostProcess, Proxy, wait_for, write_plugin

__all__ = ["places"]

HELLOS = 200
"""In the flood; each claims 64 runs."""

MAX_GROWTH = 32 * 2**20
"""Bytes that a flood of Hellos may leave the relay bigger by."""

MAX_WRITTEN = 12 * 2**20
"""Bytes that it may leave on its disk, beside the reserve that is there from the start."""

RECEIVER = """
from co2 import plugin

class X_Receiver(plugin.Co2Plugin):
    durable = {durable}

    def receive(self, data_dict):
        with open("received.txt", "a") as file:
            file.write(str(data_dict["data"]) + "\\n")

    def gap(self, gap):
        with open("gaps.txt", "a") as file:
            file.write(gap["reason"] + "\\n")
"""


def told(folder: Path) -> list[str]:
    """Return the reasons of the gaps that a receiver was told."""
    path = folder / "gaps.txt"
    return path.read_text().splitlines() if path.exists() else []


def received(folder: Path) -> list[int]:
    path = folder / "received.txt"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def on_disk(relay: HostProcess) -> int:
    return sum(path.stat().st_size for path in relay.state.glob("*.db*") if not path.name.endswith(".reserve"))


def test_nobody_renames_the_log(places: tuple[Path, HostProcess, HostProcess]) -> None:
    folder, relay, victim = places
    write_plugin(folder / "third", "receiver", ear=RECEIVER.format(durable=False))
    with (
        running(folder / "third", "satellite", "--relay", relay.url) as third,
        Proxy(victim.url) as at_victim,
        Proxy(relay.url) as at_relay,
        Proxy(third.url) as at_third,
    ):
        wait_for(lambda: at_third.co2.get_properties()["registered"], "its link")
        for number in range(30):
            at_victim.recorder.rec.send({"data": {"data": number}})
        wait_for(lambda: received(folder / "third") == list(range(30)), "all messages")
        log_id = at_relay.relay.register({})["log_id"]

        async def attack() -> list[tuple[Any, Any]]:
            answers = []
            for run, position in (("made up", 5), ("made up", 2**61), ("", 2**40)):
                async with linked(relay) as mallory:
                    await mallory.say(
                        hello(
                            "mallory@127.0.0.1:1",
                            log_id=log_id,
                            run=run,
                            token="m",
                            receipt=Receipt(log_id, run, position, b"x" * 32),
                            subscriptions=[Subscription("p", position)],
                        )
                    )
                    answers.append((await mallory.next("Welcome"), await mallory.next("Gap")))
            return answers

        for welcome, gap in asyncio.run(attack()):
            assert (welcome.log_id, welcome.anew) == (log_id, True)
            assert (gap.package, gap.reason) == ("p", "log replaced")
        at_victim.recorder.rec.send({"data": {"data": 30}})
        wait_for(lambda: 30 in received(folder / "third"), "one more message")
        assert received(folder / "third") == list(range(31)), "each once"
        wait_for(lambda: heard(folder / "witness") == list(range(31)), "the same for another")
        assert told(folder / "third") == []
        assert at_relay.relay.register({})["log_id"] == log_id
        assert "no link to" not in victim.stderr + third.stderr


def test_a_flood_of_hellos_costs_a_bounded_amount_and_tells_nobody_of_losses(
    places: tuple[Path, HostProcess, HostProcess],
) -> None:
    folder, relay, victim = places
    write_plugin(folder / "third", "receiver", ear=RECEIVER.format(durable=False))
    with (
        running(folder / "third", "satellite", "--relay", relay.url) as third,
        Proxy(victim.url) as at_victim,
        Proxy(third.url) as at_third,
        Proxy(relay.url) as at_relay,
    ):
        wait_for(lambda: at_third.co2.get_properties()["registered"], "its link")
        log_id = at_relay.relay.register({})["log_id"]
        process = psutil.Process(relay.pid)

        async def say(number: int, token: str) -> None:
            async with linked(relay) as mallory:
                claims = [(number * 64 + run + 1, 10**6 + run) for run in range(64)]
                await mallory.say(hello(f"m{number}@127.0.0.1:1", log_id=log_id, outbox=claims, token=token))
                await mallory.next("Welcome")

        async def flood(first: int) -> None:
            for number in range(first, first + HELLOS, 20):
                await asyncio.gather(*(say(one, "m" if one % 2 else "") for one in range(number, number + 20)))

        asyncio.run(flood(0))  # whatever is made at the first of them is made
        before, written = process.memory_info().rss, on_disk(relay)
        asyncio.run(flood(HELLOS))
        assert process.memory_info().rss - before < MAX_GROWTH
        assert on_disk(relay) - written < MAX_WRITTEN
        at_victim.recorder.rec.send({"data": {"data": 1}})
        wait_for(lambda: received(folder / "third") == [1], "a message")
        assert told(folder / "third") == []
    relay.stop()
    log = apsw.Connection(str(relay.state / "log.db"), flags=apsw.SQLITE_OPEN_READONLY)
    assert log.execute("SELECT DISTINCT origin FROM mark").fetchall() == [(victim.host_id.partition("@")[0],)]
    log.close()


@pytest.mark.parametrize("durable", [False, True])
def test_a_log_that_was_really_rolled_back_is_told_to_everybody(tmp_path: Path, durable: bool) -> None:
    write_plugin(tmp_path / "sender", "recorder", rec=RECORDER)
    write_plugin(tmp_path / "ear", "receiver", ear=RECEIVER.format(durable=durable))
    home = tmp_path / "relay"
    with running(home, "relay") as relay:
        port = str(relay.port)
        with (
            running(tmp_path / "sender", "satellite", "--relay", relay.url) as sender,
            running(tmp_path / "ear", "satellite", "--relay", relay.url) as ear,
            Proxy(sender.url) as at_sender,
            Proxy(ear.url) as at_ear,
        ):
            for proxy in (at_sender, at_ear):
                wait_for(lambda proxy=proxy: proxy.co2.get_properties()["registered"], "its link")
            at_sender.recorder.rec.send({"data": {"data": 1}})
            wait_for(lambda: received(tmp_path / "ear") == [1], "the first message")
            relay.stop()
            shutil.copy(home / "state" / "log.db", tmp_path / "older.db")
            with running(home, "relay", "--port", port) as second:
                for proxy in (at_sender, at_ear):
                    wait_for(lambda proxy=proxy: proxy.co2.get_properties()["registered"], "its link", 40)
                at_sender.recorder.rec.send({"data": {"data": 2}})
                wait_for(lambda: received(tmp_path / "ear") == [1, 2], "the second message")
                wait_for(lambda: not at_sender.co2.get_properties()["counters"]["waiting"], "its acknowledgement")
                second.stop()
            for path in (home / "state").glob("log.db*"):
                path.unlink()
            shutil.copy(tmp_path / "older.db", home / "state" / "log.db")
            with running(home, "relay", "--port", port):
                wait_for(
                    lambda: any("the relay lost" in reason for reason in told(tmp_path / "ear")), "the loss", 60
                )
                at_sender.recorder.rec.send({"data": {"data": 3}})
                wait_for(lambda: received(tmp_path / "ear")[-1:] == [3], "the third message", 40)
                assert received(tmp_path / "ear") == [1, 2, 3]
                assert "log replaced" in told(tmp_path / "ear")
