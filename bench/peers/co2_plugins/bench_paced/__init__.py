"""Writes down how long messages of one channel take, in a plugin host."""
