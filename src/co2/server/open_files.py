"""How many files a process may open: every connection is one."""

__all__ = ["SPARE_FILES", "allow_files"]

SPARE_FILES = 256
"""Files besides connections: logs, the log's disk, plugin hosts."""


def allow_files(wanted: int) -> int:
    """Have this process allow itself so many files, as far as it may; give how many it may open now.

    Most systems begin with 1024 and let a process have more that asks for it.
    """
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(wanted, soft)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
        except (OSError, ValueError):  # macOS promises more than its kernel gives
            return soft
        return min(wanted, hard)
    return wanted if soft == resource.RLIM_INFINITY else soft
