"""Makes the benchmark's round trips, in a plugin host."""
