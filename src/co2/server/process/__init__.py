"""A host as a process: start, signals, limits, end."""
