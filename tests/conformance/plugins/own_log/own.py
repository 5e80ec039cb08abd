from co2 import plugin


class X_Own(plugin.Co2Plugin):
    def log(self, text, *values):
        with open("own.log", "a") as file:
            file.write(text % values + "\n")

    def debug(self, text, *values):
        with open("own-debug.log", "a") as file:
            file.write(text % values + "\n")

    def x_speak(self, data_dict):
        """Log and debug."""
        self.log("mine: %s", data_dict["data"])
        self.debug("mine too: %s", data_dict["data"])
        return True
