"""A two-way bridge between OSC over UDP and the co2 network.

Modules: ``osc`` holds the plugin; ``packets`` reads and writes datagrams; ``mapping`` turns OSC messages
into data_dicts and back; ``addresses`` has host:port and channel patterns.
"""

__all__ = ["osc"]
