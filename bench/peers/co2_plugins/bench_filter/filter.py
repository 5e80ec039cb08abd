"""A relay plugin that every message passes."""

from typing import Any

from bench.peers.filtering import look

from co2 import plugin


class X_Filter(plugin.Co2RelayPlugin):
    """Looks at every message; changes it where it is told to."""

    def __init__(self, var_dict: dict[str, Any]) -> None:
        super().__init__(var_dict)
        self.change = self.config["change"]

    def relay(self, data_dict: dict[str, Any]) -> dict[str, Any] | None:
        return look(data_dict, self.change)
