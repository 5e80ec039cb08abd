"""Readings of the machine that the satellite runs on: load, memory, disk, network, temperatures."""

__all__ = ["sysinfo"]
