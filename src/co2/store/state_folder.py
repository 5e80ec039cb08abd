"""The state folder of a host: its identity, its logs, and a lock so that one host at a time uses it."""

import contextlib
import os
import re
import secrets
import shlex
import stat
from pathlib import Path
from types import TracebackType

from co2.errors import StateError
from co2.host_id import ORIGIN_PATTERN
from co2.store.fsync import sync_file, sync_folder

__all__ = ["StateFolder", "default_state_path", "holder_of"]

_OWN = frozenset(("logs", "stores", "lost+found"))
"""Names that may be in a folder before its first use as a state folder; every new file system has the last one."""

ORIGIN_BYTES = 8
"""Random bytes in an origin."""

SECRET_BYTES = 32
"""Random bytes in a secret."""


_OUTBOX = "outbox.db"
"""Messages that wait for the relay, in a satellite's folder."""
_NO_MODES = "; if that has no effect (exFAT, a network share), choose a folder on another disk with --state"
"""A disk without modes shows everything as open to everybody."""

_SECRET = re.compile(rf"[0-9a-f]{{{2 * SECRET_BYTES}}}")


def default_state_path(role: str, port: int) -> Path:
    """Return ``<platform's state folder>/co2/<role>-<port>``."""
    from platformdirs import user_state_path

    return Path(user_state_path("co2", appauthor=False)) / f"{role}-{port}"


def holder_of(path: Path) -> str:
    """Return the process id of the host that uses a state folder, '' for none. Nothing is made or changed."""
    import fcntl

    try:
        lock = os.open(path / "lock", os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return ""
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.read(lock, 32).decode(errors="replace").strip() or "unknown"
    finally:
        os.close(lock)
    return ""


class StateFolder:
    """A locked state folder.

    Attributes:
        path: of the folder, mode 0700.
        origin: the random part of the host_id, made once and kept.
        secret: hexadecimal digits that nobody else knows, made once and kept. A satellite shows it to its relay as
            proof that its origin is its own; a relay signs its receipts with it.
        logs: path of the folder for logs.
    """

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.logs = path / "logs"
        self._lock = lock
        _make_private_folder(self.logs)
        self.origin = self._read_origin()
        self.secret = self._read_secret()
        _make_private_files(path)

    @classmethod
    def open(cls, path: Path) -> "StateFolder":
        """Make the folder if need be, check it and lock it.

        Raises:
            StateError: the folder cannot be made, is a link, holds something else, belongs to or may be written by
                others, or is in use; the text names the process that uses it.
        """
        _check_nothing_else(path)
        _make_private_folder(path)
        lock = _lock(path / "lock")
        try:
            return cls(path, lock)
        except BaseException:
            os.close(lock)
            raise

    def renew_identity(self) -> list[Path]:
        """Make a new origin and secret; set aside the messages that wait for the relay under the old ones.

        Returns:
            The files that were set aside.

        Raises:
            StateError: the folder cannot be written.
        """
        before = self.origin
        # A crash after the first write leaves a new origin with the old secret: that is a new host already.
        _write_private_file(self.path / "origin", secrets.token_hex(ORIGIN_BYTES))
        _write_private_file(self.path / "secret", secrets.token_hex(SECRET_BYTES))
        self.origin, self.secret = self._read_origin(), self._read_secret()
        aside = []
        for suffix in ("", "-wal", "-shm"):
            old = self.path / f"{_OUTBOX}{suffix}"
            if old.exists():
                try:
                    aside.append(old.rename(self.path / f"{_OUTBOX}.of-{before}{suffix}"))
                except OSError as error:
                    raise StateError(f"{old} cannot be set aside: {error.strerror}") from None
        return aside[:1]

    def close(self) -> None:
        """Release the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> "StateFolder":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_origin(self) -> str:
        path = self.path / "origin"
        origin = _read_made_once(path, ORIGIN_BYTES)
        if not ORIGIN_PATTERN.fullmatch(origin):
            raise StateError(
                f"{path} does not contain an origin (letters, digits, _ and -); remove it to get a new one"
            )
        return origin

    def _read_secret(self) -> str:
        path = self.path / "secret"
        secret = _read_made_once(path, SECRET_BYTES)
        if not _SECRET.fullmatch(secret):
            raise StateError(
                f"{path} does not contain a secret ({2 * SECRET_BYTES} hexadecimal digits); restore it from a "
                "copy, or "
                f"remove it and {self.path / 'origin'}, which makes this a new host"
            )
        return secret


def _read_made_once(path: Path, random_bytes: int) -> str:
    """Read a file of random digits; make it if it is missing."""
    if path.is_symlink():
        raise StateError(f"{path} is a link, but a state folder must contain regular files: remove it")
    if not path.exists():
        _write_private_file(path, secrets.token_hex(random_bytes))
    if not path.is_file():
        raise StateError(f"{path} is not a regular file; remove it to get a new one")
    _check_file(path)
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}") from None


def _check_nothing_else(path: Path) -> None:
    """Refuse a folder that holds other things: a state folder's content is readable by its owner only."""
    try:
        names = {entry.name for entry in os.scandir(path)}
    except OSError:
        return  # it is missing; or making it reports what is wrong
    others = sorted(name for name in names - _OWN if not name.startswith("."))
    if others and not names & {"origin", "lock"}:
        raise StateError(
            f"state folder {path} holds something else ({others[0]}), and a host keeps all in it for itself; give "
            f"it a folder of its own with --state {shlex.quote(str(path / 'state'))}"
        )


def _make_private_folder(path: Path) -> None:
    try:
        if not path.is_symlink():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise StateError(
            f"state folder {path} cannot be created: {error.strerror}; choose another with --state"
        ) from None
    if stat.S_ISLNK(found.st_mode):
        raise StateError(f"state folder {path} is a link; use the folder itself with --state")
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(f"state folder {path} is not a folder; choose another with --state")
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        raise StateError(f"state folder {path} belongs to another user; choose another with --state")
    if found.st_mode & 0o022:
        # Files that others have put there, a link in place of a file, say, stay if only the mode is corrected.
        quoted = shlex.quote(str(path))
        raise StateError(
            f"state folder {path} is writable by other users; fix it with: chmod 700 {quoted}{_NO_MODES}"
        )
    if found.st_mode & 0o077:
        with contextlib.suppress(OSError):  # the file system has no modes
            path.chmod(0o700)


def _make_private_files(folder: Path) -> None:
    """Remove the access of others to existing files: older hosts made their files readable for all."""
    for inside, _, names in os.walk(folder):
        for path in (Path(inside, name) for name in names):
            with contextlib.suppress(OSError):  # the file is gone, or the file system has no modes
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode) and mode & 0o077:
                    path.chmod(mode & 0o700)


def _check_file(path: Path) -> None:
    if path.stat().st_mode & 0o022:
        raise StateError(
            f"{path} is writable by other users; fix it with: chmod 600 {shlex.quote(str(path))}{_NO_MODES}"
        )


def _write_private_file(path: Path, text: str) -> None:
    """Write a file whole or not at all: a crash leaves none. When this returns, the file is on disk."""
    made = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            made.unlink()
        file = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as opened:
            opened.write(text + "\n")
            opened.flush()
            sync_file(opened.fileno())
        made.replace(path)
        # Before anybody sees the secret: a satellite that comes back with another one is refused for good.
        sync_folder(path.parent)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from None


def _lock(path: Path) -> int:
    import fcntl

    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except OSError as error:
        raise StateError(
            f"{path} cannot be opened: {error.strerror}; choose another folder with --state"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise StateError(
            f"state folder {path.parent} is in use by process {holder}; stop it, or choose another with --state"
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock
