"""Make a plugin with its services ready before its ``__init__`` runs."""

from typing import Any

from co2.plugin.api import Binding, Co2Plugin
from co2.values import Message

__all__ = ["make_plugin"]


def make_plugin(kind: type[Co2Plugin], binding: Binding, config: Any, var_dict: Message) -> Co2Plugin:
    """Make a plugin, bound before ``__init__`` so that ``send`` works there; its exceptions are raised.

    Args:
        kind: its class.
        binding: to the host that runs it.
        config: becomes ``self.config``.
        var_dict: for ``__init__``.
    """
    plugin = kind.__new__(kind)
    _set(plugin, "_co2", binding)
    _set(plugin, "config", config)
    if kind.send is Co2Plugin.send:
        _set(plugin, "send", binding.send)  # it bypasses Co2Plugin.send: a third less time per message
    if kind.name is Co2Plugin.name:
        _set(plugin, "name", binding.name)
    plugin.__init__(var_dict)  # type: ignore[misc]  # the second step of Python's kind(var_dict)
    return plugin


def _set(plugin: Co2Plugin, name: str, value: object) -> None:
    """Set an attribute of a plugin, whatever its class does with attributes.

    Not through ``__dict__`` if possible: CPython keeps the attributes of an object in a faster place until that is
    used, and a plugin needs them for every message.
    """
    try:
        object.__setattr__(plugin, name, value)
    except AttributeError:  # a property of that name
        plugin.__dict__[name] = value
