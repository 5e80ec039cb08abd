"""Bytes and frames, and the limits of both: no state of a connection."""
