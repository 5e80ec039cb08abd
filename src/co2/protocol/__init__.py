"""The protocol without I/O: frames, and what may follow what. No sockets, no clocks, no dice."""
