"""The command ``co2``: one file per group of commands, each imported only when it is used."""

from co2.cli.main import main

__all__ = ["main"]
