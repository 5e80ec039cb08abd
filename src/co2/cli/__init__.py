"""The command ``co2``. Each group of commands has a file, which is imported only when one of them is used."""

from co2.cli.main import main

__all__ = ["main"]
