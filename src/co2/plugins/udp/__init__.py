"""A relay plugin for JSON lines over UDP: for microcontrollers, and other programs with only a UDP socket.

Modules: ``udp`` has the plugin; ``lines`` parses and encodes datagrams; ``peers`` has the subscriptions, and
limits the answers with errors; ``settings`` is the configuration.
"""

__all__ = ["udp"]
