from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    def receive(self, data_dict):
        while data_dict["data"] == "hang":
            pass
        self.send({"data": [data_dict["data"], data_dict.get("repeat", False)]})
