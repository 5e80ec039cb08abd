"""Code of a plugin host, the process that a package runs in (``python -m co2.plugin.child.host``)."""
