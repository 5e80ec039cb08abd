"""Programs for those who change co2; the ``Makefile`` runs them."""
