import time

from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    def __exit__(self):
        self.send({"data": "last words"})
        while True:
            time.sleep(1)
