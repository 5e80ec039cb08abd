"""The interests of the plugins of a package, at the parent."""

from collections.abc import Sequence

from co2.protocol.wire.channel_patterns import Interests
from co2.protocol.wire.plugin_frames.frames import PluginInfo

__all__ = ["PackageInterests"]


class PackageInterests:
    """The interests of the plugins of a package that receive.

    Args:
        plugins: all plugins of the package.
    """

    def __init__(self, plugins: Sequence[PluginInfo]) -> None:
        self._interests = [(one.name, Interests(one.channels or None)) for one in plugins if one.receives]

    def wants(self, channels: Sequence[str] | None, sender: str = "") -> bool:
        """Return whether any plugin except ``sender`` wants a frame with messages of these channels."""
        names = None if channels is None else tuple(channels)
        return any(name != sender and interests.wants(names) for name, interests in self._interests)
