"""Find, check and import a plugin package: no process, no asyncio."""
