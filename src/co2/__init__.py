"""co2: a many-to-many network for control data.

Plugin authors need one line: ``from co2 import plugin``.
"""

__all__ = ["__version__"]

__version__ = "0.9.0"
