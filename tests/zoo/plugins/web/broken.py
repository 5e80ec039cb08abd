raise SystemExit("a package with a reserved name must not be imported")
