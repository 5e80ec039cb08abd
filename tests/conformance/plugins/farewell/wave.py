from co2 import plugin


class X_Wave(plugin.Co2Plugin):
    def __exit__(self):
        self.send({"data": "goodbye"})
        with open("exited", "w") as file:
            file.write("yes")


class X_WaveOldStyle(plugin.Co2Plugin):
    def __exit__(self, kind, value, traceback):
        with open("exited-three", "w") as file:
            file.write(repr((kind, value, traceback)))
