"""A link's WebSocket."""
