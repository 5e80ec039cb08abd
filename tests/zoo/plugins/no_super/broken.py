from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    def __init__(self, var_dict):
        self.mine = 1
