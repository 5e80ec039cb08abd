import a_module_that_nobody_has  # noqa: F401
from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    pass
