from co2 import plugin


class X_Hidden(plugin.Co2Plugin):
    def x_hidden(self, data_dict):
        return "never"
