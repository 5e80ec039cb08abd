import time

from co2 import plugin

while True:
    time.sleep(1)


class X_Broken(plugin.Co2Plugin):
    pass
