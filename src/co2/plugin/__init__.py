"""All that a plugin author needs: ``from co2 import plugin`` and ``class X_Mine(plugin.Co2Plugin)``.

``plugin.errors`` holds what ``send``, ``call`` and the store raise, ``plugin.Host`` and ``plugin.Timer`` are what
``hosts`` and ``every`` give.
"""

from co2 import errors
from co2.plugin.api import Co2Plugin
from co2.plugin.timers import Timer
from co2.protocol.frames import Host

__all__ = ["Co2Plugin", "Host", "Timer", "errors"]
