"""What a satellite or a relay does about its plugin hosts, with asyncio."""
