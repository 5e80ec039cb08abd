"""Sends what the benchmark sends, from a plugin host."""
