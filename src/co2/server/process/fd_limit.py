"""How many files a process may open: every connection is one."""

__all__ = ["OPEN_MAX", "SPARE_FILES", "allow_files"]

OPEN_MAX = 10_240
"""Files that macOS gives a process whatever it promises (setrlimit(2) there)."""

SPARE_FILES = 256
"""Files besides connections: logs, the log's disk, plugin hosts."""


def allow_files(wanted: int) -> int:
    """Have this process allow itself so many files, as far as it may; give how many it may open now.

    Most systems begin with 1024, macOS with 256, and let a process have more that asks for it.
    """
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = max(wanted, soft)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        for allowed in (min(wanted, hard), min(wanted, hard, OPEN_MAX)):
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            except (OSError, ValueError):  # macOS promises more than its kernel gives
                continue
            return allowed
        return soft
    return wanted if soft == resource.RLIM_INFINITY else soft
