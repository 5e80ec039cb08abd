from co2 import plugin


class Worst(BaseException):
    pass


class X_Broken(plugin.Co2Plugin):
    def receive(self, data_dict):
        if data_dict["data"] == "die":
            raise Worst("not an Exception")
        if data_dict["data"] == "interrupt":
            raise KeyboardInterrupt
        if data_dict["data"] == "after":
            self.send({"data": "still here"})
