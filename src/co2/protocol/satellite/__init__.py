"""The satellite's side of a link, without I/O."""
