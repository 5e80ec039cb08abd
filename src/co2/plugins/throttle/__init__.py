"""A relay plugin: of each channel of each sender the latest value, so many times a second and no more.

Modules: ``throttle`` holds the plugin; ``settings`` its configuration; ``lanes`` what it knows of each channel.
"""

__all__ = ["throttle"]
