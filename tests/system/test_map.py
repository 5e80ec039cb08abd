"""``[[map]]`` of co2.toml in real hosts: a message goes to another channel, and entries change while it runs."""

import contextlib
import json
import re
import threading
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from co2.plugin.parent.lifecycle import TRIAL
from tests.harness import PATIENCE, RECORDER, HostProcess, running, wait_for, write_plugin

FADER = """
[[map]]
from = "stage.*.level"
to = "light.{1}.dim"
range = [0.0, 1.0]
out = [0, 255]
"""

COUNTED = """
[[map]]
from = "count.in"
to = "count.out"
"""

CIRCLE = """
[[map]]
from = "count.out"
to = "count.in"
"""


def write(folder: Path, text: str) -> None:
    """Replace the configuration as an editor does, in one step."""
    new = folder / "co2.new"
    new.write_text(text)
    new.replace(folder / "co2.toml")


@contextlib.contextmanager
def network(tmp_path: Path, config: str, *args: str) -> Iterator[tuple[HostProcess, HostProcess, HostProcess]]:
    """A relay, a satellite with this configuration, and another one that records; all read their own co2.toml."""
    folder = tmp_path / "mapper"
    (folder / "plugins").mkdir(parents=True)
    write(folder, config)
    (tmp_path / "relay").mkdir()
    write(tmp_path / "relay", config)
    write_plugin(tmp_path / "other", "recorder", recorder=RECORDER)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(folder, "satellite", "--relay", relay.url, *args) as mapper,
        running(tmp_path / "other", "satellite", "--relay", relay.url) as other,
    ):
        yield relay, mapper, other


def say(host: HostProcess, channel: str, data: Any) -> None:
    assert host.call("recorder.recorder.send", {"channel": channel, "data": data}) is True


def received(host: HostProcess, channel: str) -> list[Any]:
    file = host.folder / "received.jsonl"
    messages = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return [message["data"] for message in messages if message["channel"] == channel]


def packages(host: HostProcess) -> dict[str, dict[str, Any]]:
    with host.proxy() as proxy:
        return {row["name"]: row for row in proxy.co2.get_properties()["plugins"]}


def reload(host: HostProcess) -> None:
    with host.proxy() as proxy:
        proxy.co2.plugin.reload("map")


def test_a_message_is_mapped_and_entries_change_while_it_runs(tmp_path: Path) -> None:
    with network(tmp_path, FADER) as (relay, mapper, other):
        assert [*packages(mapper)] == ["map"] and [*packages(relay)] == []
        assert "this satellite has no plugins" not in mapper.stderr
        for _ in range(3):
            say(other, "noise", 0.2)
        say(other, "stage.left.level", 0.2)
        wait_for(lambda: received(other, "light.left.dim") == [51.0], "the mapped message")

        write(mapper.folder, FADER.replace("255", "100") + COUNTED)
        reload(mapper)
        say(other, "stage.left.level", 0.2)
        wait_for(lambda: received(other, "light.left.dim") == [51.0, 20.0], "a message by the new entry")

        # A bad entry is refused with its number and what is wrong; the entries before it stay in force.
        for bad, told in (
            (
                COUNTED + CIRCLE,
                r"entries 2 \(count\.in to count\.out\) and 3 \(count\.out to count\.in\) lead in a c",
            ),
            (COUNTED + "scale = 2\n", r"\[\[map\]\] entry 2: scale: unknown key"),
            (COUNTED + 'smooth = "1m"\n', r"\[\[map\]\] entry 2: smooth: found '1m', expected a duration"),
            ("[map]\n", r"expected tables \[\[map\]\], found"),
        ):
            write(mapper.folder, bad if bad.startswith("[map]") else FADER + bad)
            with pytest.raises(xmlrpc.client.Fault) as caught:
                reload(mapper)
            assert re.search(told, caught.value.faultString) and "co2.toml" in caught.value.faultString
        say(other, "count.in", 7)
        say(other, "stage.left.level", 1)
        wait_for(lambda: received(other, "light.left.dim") == [51.0, 20.0, 100.0], "a message by the old entries")
        wait_for(lambda: received(other, "count.out") == [7], "a message by the old entries")
        # The noise did not even come to its process. What a message led to may be there before it is counted.
        wait_for(
            lambda: [packages(mapper)["map"][key] for key in ("state", "received")] == ["running", 4], "the count"
        )
        assert mapper.call("map.map.status")[1]["out"] == 1


def test_a_watched_file_starts_and_changes_the_maps_and_loses_nothing(tmp_path: Path) -> None:
    with network(tmp_path, "", "--watch") as (_, mapper, other):
        assert packages(mapper) == {}
        write(mapper.folder, COUNTED)
        wait_for(lambda: packages(mapper).get("map", {}).get("state") == "running", "the first entry")
        count, stop = [0], threading.Event()

        def stream() -> None:
            while not stop.is_set():
                say(other, "count.in", count[0])
                count[0] += 1

        thread = threading.Thread(target=stream)
        thread.start()
        try:
            for number in (1, 2, 3):
                write(mapper.folder, COUNTED + FADER.replace("stage", f"stage{number}"))
                wait_for(lambda n=number: packages(mapper)["map"]["reloads"]["ok"] == n, "a reload", 3 * PATIENCE)
            before = count[0]
            wait_for(lambda: count[0] > before + 50, "messages after the last reload")
        finally:
            stop.set()
            thread.join(PATIENCE)
        wait_for(lambda: received(other, "count.out")[-1:] == [count[0] - 1], "the last message")
        assert received(other, "count.out") == [*range(count[0])]
        assert mapper.call("map.map.status")[1]["from"] == "stage3.*.level"


def test_a_value_that_moves_goes_on_through_a_reload_and_ends_on_its_target(tmp_path: Path) -> None:
    slow = '\n[[map]]\nfrom = "a"\nto = "b"\nsmooth = "1s"\nrate = 20\n'
    with network(tmp_path, slow) as (_, mapper, other):
        say(other, "a", 0.0)
        say(other, "a", 1.0)
        wait_for(lambda: len(received(other, "b")) > 3, "a few steps")
        write(mapper.folder, slow + COUNTED)
        reload(mapper)
        wait_for(lambda: received(other, "b")[-1] == 1.0, "the target", PATIENCE + TRIAL)
        values = received(other, "b")
        assert values == sorted(set(values)) and len(values) > 30
        assert mapper.call("map.map.status")[0]["moving"] == 0


def test_a_bad_entry_at_the_start_stops_only_the_maps(tmp_path: Path) -> None:
    with network(tmp_path, FADER + CIRCLE + COUNTED) as (_, mapper, _other):
        row = packages(mapper)["map"]
        assert row["state"] == "failed" and "lead in a circle" in row["last_error"]
        assert "co2.toml: [[map]]: entries 2 (count.out to count.in) and 3" in mapper.log()
