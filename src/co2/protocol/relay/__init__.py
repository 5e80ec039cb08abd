"""The relay's side of all links, and its memory of its members, without I/O."""
