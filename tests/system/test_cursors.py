"""A satellite whose disk does not take how far durable plugins are: all else goes on, and it ends as it should."""

from pathlib import Path

from tests.harness import running, wait_for, write_plugin

PLUGIN = '''
from co2 import plugin

class X_Last(plugin.Co2Plugin):
    """Hears everything, and says something at its end."""

    durable = True

    def receive(self, data_dict):
        self.log("heard %s", data_dict["data"])

    def __exit__(self):
        self.send({"data": "last words"})
'''


def test_positions_that_cannot_be_written_cost_nothing_else(tmp_path: Path) -> None:
    write_plugin(tmp_path / "sat", "last", mod=PLUGIN)
    with (
        running(tmp_path / "relay", "relay") as relay,
        running(tmp_path / "sat", "satellite", "--relay", relay.url) as satellite,
        relay.proxy() as proxy,
    ):
        me = proxy.relay.register({})
        blocked = satellite.state / "cursors.json.new"
        wait_for(lambda: not blocked.exists())
        blocked.mkdir()
        (blocked / "in the way").touch()
        proxy.relay.relay({"host_id": me["host_id"], "data": 1})
        wait_for(lambda: "heard 1" in satellite.log())
        wait_for(lambda: "cannot save the positions of durable plugins" in satellite.log())
        assert satellite.stop() == 0
        assert "stopping failed" not in satellite.log()
        assert "a task of the satellite ended" not in satellite.log()
        answer = proxy.relay.fetch({"host_id": me["host_id"], "after": me["position"], "wait": 5})
        assert [message["data"] for message in answer["messages"]] == ["last words"]
