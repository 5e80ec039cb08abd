"""Counts the benchmark's messages, with the time of each, in a plugin host."""
