# The configuration of 2003: read, never executed.
plugin_list = ["ham", "eggs", "farewell", "own_log", "no_super", "sys", "system", "co2", "relay", "web", "dup"]
raise SystemExit("executed")
