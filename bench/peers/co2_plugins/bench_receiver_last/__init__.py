"""Counts the benchmark's messages, and gets last values first, in a plugin host."""
