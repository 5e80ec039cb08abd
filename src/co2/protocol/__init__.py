"""The protocol without I/O: frames, and which may follow which. No sockets, no clocks, no random numbers."""
