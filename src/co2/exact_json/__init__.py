"""JSON at the door: exact both ways, read within limits, and the status of HTTP for each error."""
