"""The HTTP server: it listens, parses requests, enforces limits on every connection and writes the answers."""
