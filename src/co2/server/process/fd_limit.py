"""The number of files that a process may open: every connection is one."""

__all__ = ["OPEN_MAX", "SPARE_FILES", "allow_files"]

OPEN_MAX = 10_240
"""Files that macOS really allows a process, whatever its limits say (setrlimit(2) there)."""

SPARE_FILES = 256
"""Files besides connections: logs, the log's disk, plugin hosts."""


def allow_files(wanted: int) -> int:
    """Raise this process's limit of open files to ``wanted``, as far as allowed; return the limit.

    Most systems start with 1024, macOS with 256, and let a process raise that.
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
            except (OSError, ValueError):  # macOS reports a higher limit than its kernel allows
                continue
            return allowed
        return soft
    return wanted if soft == resource.RLIM_INFINITY else soft
