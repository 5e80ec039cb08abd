"""Whoever answers: every message goes back from within ``receive``."""

from typing import Any

from bench.peers.trips import BACK, THERE, answer

from co2 import plugin


class X_Answerer(plugin.Co2Plugin):
    """Sends back what comes."""

    channels = (THERE,)

    def receive(self, data_dict: dict[str, Any]) -> None:
        """Answer it."""
        self.send({**answer(data_dict), "channel": BACK})
