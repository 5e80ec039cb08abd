"""Packages that together want more channels than one may name: each of them gets its own."""

from pathlib import Path

from tests.harness import RECORDER, Proxy, running, wait_for, write_plugin

LISTENER = """
from co2 import plugin

class X_Listener(plugin.Co2Plugin):
    channels = tuple(f"{name}.c{{number}}" for number in range({count}))

    def receive(self, data_dict):
        with open("heard.txt", "a") as file:
            file.write("{name} " + data_dict["channel"] + "\\n")
"""


def test_a_satellite_with_hundreds_of_patterns_takes_part(tmp_path: Path) -> None:
    receiver = tmp_path / "receiver"
    for name in ("one", "two", "three"):
        write_plugin(receiver, name, ear=LISTENER.format(name=name, count=100))
    # One package whose plugins together want more than one of them may.
    write_plugin(
        receiver, "four", a=LISTENER.format(name="foura", count=200), b=LISTENER.format(name="fourb", count=200)
    )
    write_plugin(tmp_path / "sender", "recorder", rec=RECORDER)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(receiver, "satellite", "--relay", relay.url) as ears,
        running(tmp_path / "sender", "satellite", "--relay", relay.url) as sender,
        Proxy(ears.url) as at_ears,
        Proxy(sender.url) as proxy,
    ):
        wait_for(lambda: at_ears.co2.get_properties()["registered"], "the link")
        for channel in ("one.c99", "two.c0", "three.c1", "foura.c199", "fourb.c0", "one.c100", "nobody"):
            proxy.recorder.rec.send({"data": {"data": 1, "channel": channel}})
        heard = receiver / "heard.txt"
        wanted = {"one one.c99", "two two.c0", "three three.c1", "foura foura.c199", "fourb fourb.c0"}
        wait_for(lambda: heard.exists() and set(heard.read_text().split("\n")) >= wanted, "all of it")
        assert sorted(heard.read_text().split("\n")) == sorted([*wanted, ""])
