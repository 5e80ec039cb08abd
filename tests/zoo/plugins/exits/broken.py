import os

from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    def receive(self, data_dict):
        if data_dict["data"] == "die":
            print("tried", data_dict.get("repeat", False), flush=True)
            os._exit(3)

    def x_die(self, data_dict):
        os._exit(4)
