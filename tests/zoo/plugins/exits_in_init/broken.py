import os

from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    def __init__(self, var_dict):
        super().__init__(var_dict)
        os._exit(7)
