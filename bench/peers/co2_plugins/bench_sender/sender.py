"""The sender: the loops of the other peers' senders, with ``self.send``, which encodes."""

import contextlib
import threading
import time
from typing import Any

from bench.peers.tally import LAST, PROBE

from co2 import plugin

BLOCK = 500
"""Messages between two looks at the clock."""


class X_Sender(plugin.Co2Plugin):
    """Sends when told to, in a thread of its own."""

    def __init__(self, var_dict: Any) -> None:
        super().__init__(var_dict)
        self._answer: list[str] = []
        self._marked = {key: value for key, value in self.config.items() if key == "channel"}

    def x_begin(self, data_dict: dict[str, Any]) -> bool:
        """Begin to send; data: {'do': 'probe', 'run' or 'pace', 'seconds': …, 'rate': …}."""
        self._answer = []
        threading.Thread(target=self._work, args=(data_dict["data"],), daemon=True).start()
        return True

    def x_finished(self, data_dict: dict[str, Any]) -> list[str]:
        """Return [messages sent, begun, ended], empty while it sends."""
        return self._answer

    def _work(self, wanted: dict[str, Any]) -> None:
        begun, do = time.monotonic_ns(), wanted["do"]
        count = 1
        if do == "run":
            count = self._run(wanted["seconds"])
        elif do == "pace":
            count = self._pace(wanted["seconds"], wanted["rate"])
        # No room for that long, again: the runner stops waiting for the last one by itself.
        with contextlib.suppress(TimeoutError):
            self.send({"data": [PROBE if do == "probe" else LAST, self.config["number"], 0.815], **self._marked})
        self._answer = [str(count), str(begun), str(time.monotonic_ns())]

    def _run(self, seconds: float) -> int:
        send, count, end = self.send, 0, time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                for number in range(count, count + BLOCK):
                    send({"data": [number, "shrubbery", 0.815]})
                count += BLOCK
            except TimeoutError:  # no room for that long: what is sent by now is what there is to count
                return number
        return count

    def _pace(self, seconds: float, rate: float) -> int:
        count, begun = int(seconds * rate), time.monotonic()
        for number in range(count):
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            self.send({"data": [time.monotonic_ns(), "shrubbery", 0.815], **self._marked})
        return count
