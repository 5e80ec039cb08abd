"""Counts what the benchmark sends, in a plugin host."""
