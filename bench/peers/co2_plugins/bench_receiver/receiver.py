"""The receiver: the other peers' tally, as ``receive`` of a plugin."""

from typing import Any

from bench.peers.tally import Tally

from co2 import plugin


class X_Receiver(Tally, plugin.Co2Plugin):
    """Counts; the configuration says whether messages are stamped."""

    def __init__(self, var_dict: Any) -> None:
        plugin.Co2Plugin.__init__(self, var_dict)
        Tally.__init__(self)
        # In the instance, so that nothing stands between the plugin host and the tally.
        self.receive = self.take_stamped if self.config["stamped"] else self.take  # type: ignore[method-assign, assignment]

    def receive(self, data_dict: dict[str, Any]) -> None:
        """Show the host that this plugin receives; replaced in __init__."""

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
