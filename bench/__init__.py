"""Measure co2 beside its peers, in one run, on one machine: ``make bench``."""
