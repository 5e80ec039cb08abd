raise SystemExit("a package that is not listed must not be imported")
