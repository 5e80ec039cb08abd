"""What the plugins of a package want to hear, as their host knows it."""

from collections.abc import Sequence

from co2.protocol.wire.channel_patterns import Interests
from co2.protocol.wire.plugin_frames.frames import PluginInfo

__all__ = ["PackageInterests"]


class PackageInterests:
    """The interests of those plugins of a package that receive.

    Args:
        plugins: all of them.
    """

    def __init__(self, plugins: Sequence[PluginInfo]) -> None:
        self._interests = [(one.name, Interests(one.channels or None)) for one in plugins if one.receives]

    def wants(self, channels: Sequence[str] | None, sender: str = "") -> bool:
        """Tell whether any but ``sender`` wants a frame with messages of these channels."""
        names = None if channels is None else tuple(channels)
        return any(name != sender and interests.wants(names) for name, interests in self._interests)
