from co2 import plugin


class X_Base(plugin.Co2Plugin):
    def x_base(self, data_dict):
        """From the module that defines it."""
        return "base"
