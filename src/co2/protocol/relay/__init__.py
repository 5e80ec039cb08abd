"""The relay's end of all links, and what it keeps of its members, without I/O."""
