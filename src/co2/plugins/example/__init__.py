"""A co2 plugin to learn from: read example.py from top to bottom.

A package lists in __all__ the modules that the satellite loads. Without __all__ the satellite loads all.
"""

__all__ = ["example"]
