"""The WebSocket of a link."""
