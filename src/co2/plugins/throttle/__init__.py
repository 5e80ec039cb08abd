"""A relay plugin that passes on the latest value of each channel of each sender, at a given rate.

Modules: ``throttle`` has the plugin; ``settings`` its configuration; ``lanes`` the state of each channel.
"""

__all__ = ["throttle"]
