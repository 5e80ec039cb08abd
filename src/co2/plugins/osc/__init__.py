"""A two-way bridge between OSC over UDP and the co2 network.

Modules: ``osc`` has the plugin; ``packets`` parses and encodes datagrams; ``mapping`` converts OSC messages to
messages of the network and back; ``addresses`` has UDP addresses, and OSC addresses and channels; ``holders``
finds the program that uses a port; ``settings`` is the configuration.
"""

__all__ = ["osc"]
