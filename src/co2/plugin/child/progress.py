"""The progress of each plugin, in a few words of memory that outlive the child.

The child writes a word before each ``receive`` and after the last of a frame (about 20 ns); its parent reads them
after a death, to know where to resume, and at intervals, to notice hanging plugins. So no message costs a clock
call.

Three words per plugin. The message word is 0 at first, ``2n + 1`` while inside message n, ``2n + 2`` after it. The
activity word is ``2k + 1`` while inside call k, even after it, and :data:`EXITING` within ``__exit__``. The letter
word counts the plugin's dead letters: so the parent knows of those that a death has kept from it.
"""

import mmap
import os
import secrets
import sys

from co2.protocol.wire.plugin_frames.lifecycle import MAX_PLUGINS

__all__ = [
    "CALLBACKS",
    "EXITING",
    "LETTER_WORDS",
    "MAX_PLUGINS",
    "RELAYING",
    "ProgressWords",
    "make_progress_file",
]


EXITING = 2**64 - 1

CALLBACKS = 2**40
"""Numbers from here on are not calls of ``x_`` methods: they count calls of timers, ``joined`` and ``left``."""

RELAYING = 2**50
"""Numbers from here on count messages that pass a relay plugin."""

LETTER_WORDS = 2 * MAX_PLUGINS
"""Index of the first letter word, plugin by plugin: apart from the words that are written for each message."""

_WORD = 8
_SIZE = MAX_PLUGINS * 3 * _WORD


def make_progress_file() -> int:
    """Make a file to map; return its descriptor, which the caller closes."""
    if sys.platform == "linux":
        fd = os.memfd_create("co2-progress")
    else:
        fd = _shared_memory()
    os.ftruncate(fd, _SIZE)
    return fd


def _shared_memory() -> int:
    """Make shared memory where there is no memfd.

    On macOS a file would be written to its disk whenever it is mapped, in the event loop that starts a plugin
    host: CPython's mmap requests that there.
    """
    name = f"/co2-{secrets.token_hex(8)}"  # macOS allows 31 characters
    try:
        import _posixshmem  # type: ignore[import-not-found]

        fd: int = _posixshmem.shm_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode=0o600)
        _posixshmem.shm_unlink(name)
    except (ImportError, OSError):
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    return fd


class ProgressWords:
    """The words of one child.

    Args:
        fd: the file that parent and child map; -1 for memory of this process alone.
    """

    def __init__(self, fd: int = -1) -> None:
        self._map = mmap.mmap(fd, _SIZE)
        self._bytes = memoryview(self._map)
        self.words = self._bytes.cast("Q")
        """Plugin i has its message word at 2i, its activity word at 2i + 1."""

    def message(self, plugin: int) -> int:
        """Read the message word."""
        return self.words[2 * plugin]

    def activity(self, plugin: int) -> int:
        """Read the activity word."""
        return self.words[2 * plugin + 1]

    @property
    def letters(self) -> int:
        """Dead letters of all plugins."""
        return sum(self.words[LETTER_WORDS:])

    def close(self) -> None:
        """Unmap the file."""
        self.words.release()
        self._bytes.release()
        self._map.close()
