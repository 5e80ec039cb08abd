"""Everything that a plugin author needs: ``from co2 import plugin`` and ``class X_Mine(plugin.Co2Plugin)``.

``plugin.Co2RelayPlugin`` is the base class of relay plugins. ``plugin.errors`` has the exceptions of ``send``,
``call`` and the store. ``hosts`` returns a list of ``plugin.Host``, and ``every`` returns a ``plugin.Timer``.
``plugin.Channels`` is a set of channels, given by patterns. ``plugin.marks`` says how dangerous a method is.
"""

from co2 import errors
from co2.plugin.api import Co2Plugin
from co2.plugin.channels import Channels
from co2.plugin.method_marks import marks
from co2.plugin.relay_plugin import Co2RelayPlugin
from co2.plugin.timers import Timer
from co2.protocol.wire.plugin_frames.frames import Host

__all__ = ["Channels", "Co2Plugin", "Co2RelayPlugin", "Host", "Timer", "errors", "marks"]
