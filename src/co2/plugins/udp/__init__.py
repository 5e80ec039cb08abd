"""A relay plugin: JSON lines over UDP, for microcontrollers and whatever else has a UDP socket and no more.

Modules: ``udp`` holds the plugin; ``lines`` reads and writes datagrams; ``peers`` knows who has subscribed, and
how often somebody is told of errors; ``settings`` is the configuration.
"""

__all__ = ["udp"]
