from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    def receive(self, data_dict):
        if data_dict["data"] == "at once":
            [0] * (10 * 1024**3 // 8)
        elif data_dict["data"] == "bit by bit":
            spam = []
            while True:
                spam.append(bytearray(10 * 1024**2))
        elif data_dict["data"] == "after":
            self.send({"data": "still here"})
