"""A co2 plugin to learn from: read example.py, top to bottom.

A package lists in __all__ the modules that the satellite should load. Without __all__ it loads all.
"""

__all__ = ["example"]
