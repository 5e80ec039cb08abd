import re

from co2 import plugin


class X_Broken(plugin.Co2Plugin):
    """Never lets go of the interpreter: no other thread of its process can do anything."""

    def __exit__(self):
        re.match(r"(a+)+$", "a" * 64 + "b")
