"""Listens, reads requests, and holds whoever connects to the limits."""
