"""Whoever asks: the other peers' pinger, with ``self.send`` and as ``receive`` of a plugin."""

import threading
from typing import Any

from bench.peers.trips import BACK, THERE, Pinger

from co2 import plugin


class X_Pinger(plugin.Co2Plugin):
    """Makes round trips when told to."""

    channels = (BACK,)

    def __init__(self, var_dict: Any) -> None:
        super().__init__(var_dict)
        self._pinger = Pinger(self._ask)
        self._took: list[float] | None = None
        self._problem = ""

    def receive(self, data_dict: dict[str, Any]) -> None:
        """Take an answer."""
        if (question := self._pinger.take(data_dict)) is not None:
            self._ask(question)

    def x_begin(self, data_dict: dict[str, Any]) -> bool:
        """Begin; data: {'count': …, 'pause': …}, a count of 0 for a probe."""
        self._took, self._problem = None, ""
        threading.Thread(target=self._work, kwargs=data_dict["data"], daemon=True).start()
        return True

    def x_finished(self, data_dict: dict[str, Any]) -> dict[str, Any]:
        """Return how long each took, and what went wrong; nothing while it works."""
        return {"took": self._took, "problem": self._problem}

    def _work(self, count: int, pause: float) -> None:
        try:
            if count:
                self._took = self._pinger.run(count, pause)
            else:
                self._pinger.meet()
                self._took = []
        except Exception as error:
            self._problem = str(error)

    def _ask(self, message: dict[str, Any]) -> None:
        self.send({**message, "channel": THERE})
