"""The parent's side of plugin hosts, in a satellite or a relay, with asyncio."""
