import os

from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    def receive(self, data_dict):
        if data_dict["data"] == "die":
            os.closerange(0, 1000)
        if data_dict["data"] == "after":
            self.send({"data": "still here"})
