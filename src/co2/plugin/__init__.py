"""All that a plugin author needs: ``from co2 import plugin`` and ``class X_Mine(plugin.Co2Plugin)``."""

from co2.plugin.api import Co2Plugin

__all__ = ["Co2Plugin"]
