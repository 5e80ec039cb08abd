"""A relay plugin that every message passes."""

from typing import Any

from co2 import plugin


class X_Filter(plugin.Co2RelayPlugin):
    """Looks at every message; changes it where it is told to."""

    def __init__(self, var_dict: dict[str, Any]) -> None:
        super().__init__(var_dict)
        self.change = self.config["change"]

    def relay(self, data_dict: dict[str, Any]) -> dict[str, Any] | None:
        if data_dict["data"] is None:
            return None
        if self.change:
            data_dict["passed"] = True
        return data_dict
