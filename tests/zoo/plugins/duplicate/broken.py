from co2 import plugin


class X_First(plugin.Co2Plugin):
    def x_same(self, data_dict):
        return 1


class X_Second(plugin.Co2Plugin):
    def x_same(self, data_dict):
        return 2
