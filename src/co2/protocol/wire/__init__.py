"""The bytes of frames, and their limits: no state of a connection."""
