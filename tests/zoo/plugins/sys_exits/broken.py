import sys

from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    def receive(self, data_dict):
        if data_dict["data"] == "die":
            sys.exit(5)
        if data_dict["data"] == "after":
            self.send({"data": "still here"})
