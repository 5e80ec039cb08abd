"""What all tests need of the system."""

import contextlib

MANY_FILES = 4096
"""Hundreds of connections, both ends in one process. macOS begins with 256 files."""

with contextlib.suppress(ImportError, OSError, ValueError):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MANY_FILES:
        wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(MANY_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
