"""The receiver of what is paced, while a load that it does not want goes by."""

from typing import Any

from bench.peers.tally import Tally

from co2 import plugin


class X_Receiver(Tally, plugin.Co2Plugin):
    """Writes down how long messages of the channel ``paced`` take."""

    channels = ("paced",)

    def __init__(self, var_dict: Any) -> None:
        plugin.Co2Plugin.__init__(self, var_dict)
        Tally.__init__(self)

    def receive(self, data_dict: dict[str, Any]) -> None:
        """Write down how long it took."""
        self.take_stamped(data_dict)

    def x_state(self, data_dict: dict[str, Any]) -> dict[str, Any]:
        """Return what has come."""
        return self.state()

    def x_microseconds(self, data_dict: dict[str, Any]) -> list[float]:
        """Return how long every message took."""
        return self.microseconds()

    def x_reset(self, data_dict: dict[str, Any]) -> bool:
        """Forget what has come."""
        self.reset()
        return True
