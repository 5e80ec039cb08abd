from co2 import plugin


class X_Reserved(plugin.Co2Plugin):
    def x_reserved(self, data_dict):
        return "never"
