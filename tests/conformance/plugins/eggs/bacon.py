import time

from .base import X_Base  # noqa: F401 - imported, must not load twice
from co2 import plugin


class X_Bacon(plugin.Co2Plugin):
    def receive(self, data_dict):
        if data_dict["data"] == "take your time":
            time.sleep(1.3)

    def __str__(self):
        return "crispy bacon"

    def x_shout(self, data_dict):
        """Write a line to the log and tell how it is called."""
        self.log("bacon is here")
        return str(self)
