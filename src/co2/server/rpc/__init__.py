"""Calls: of methods over XML-RPC and over a link."""
