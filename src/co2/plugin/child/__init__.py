"""What runs inside a plugin host, the process that a package lives in (``python -m co2.plugin.child.host``)."""
