"""Administration of a host: its packages and its tables."""
