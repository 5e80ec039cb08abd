"""Refuse files and folders that others may write: who can write them can run code as us."""

import stat
from pathlib import Path

from co2.errors import ConfigError

__all__ = ["check_private"]


def check_private(path: Path) -> None:
    """Refuse a file or folder that everybody may write.

    Raises:
        ConfigError: it is world-writable; the text has the command that mends it.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    sticky_folder = stat.S_ISDIR(mode) and mode & stat.S_ISVTX
    if mode & stat.S_IWOTH and not sticky_folder:
        raise ConfigError(str(path), f"everybody may write it, so it is not used; mend it with: chmod o-w {path}")
