"""The satellite's end of a link, without I/O."""
