"""All that a plugin author needs: ``from co2 import plugin`` and ``class X_Mine(plugin.Co2Plugin)``.

``plugin.Co2RelayPlugin`` is the base of what a relay carries. ``plugin.errors`` holds what ``send``, ``call`` and
the store raise, ``plugin.Host`` and ``plugin.Timer`` are what ``hosts`` and ``every`` give, ``plugin.Channels`` is
a set of channels by patterns.
"""

from co2 import errors
from co2.plugin.api import Co2Plugin
from co2.plugin.channels import Channels
from co2.plugin.relay_plugin import Co2RelayPlugin
from co2.plugin.timers import Timer
from co2.protocol.wire.plugin_frames.frames import Host

__all__ = ["Channels", "Co2Plugin", "Co2RelayPlugin", "Host", "Timer", "errors"]
