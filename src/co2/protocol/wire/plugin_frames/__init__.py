"""Frames between a host and its plugin hosts."""
