from co2 import plugin


class X_Broken(plugin.Co2Plugin)
    pass
