"""Carries values from channels to other channels, as the entries ``[[map]]`` of co2.toml say.

Modules: ``map`` has the plugin; ``settings`` the entries, checked; ``routes`` says which channel leads to which;
``scale`` converts values; ``lanes`` smooths them and limits their rate.
"""

__all__ = ["map"]
