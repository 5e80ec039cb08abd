import ctypes

from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    def receive(self, data_dict):
        if data_dict["data"] == "die":
            ctypes.string_at(0)
