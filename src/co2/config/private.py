"""Refuse code and configuration that others may write: such a user could run code as us.

A file is private if it, and every folder on the path to it, belongs to us or to root, and nobody else may write
it. Links are followed, each with the folder that holds it.
"""

import contextlib
import errno
import os
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from co2.errors import ConfigError

__all__ = ["MAX_CHECKED", "Trust", "check_code", "check_private", "open_code", "trust_of"]

MAX_CHECKED = 10_000
"""Folders and files of code that are checked in one package."""

MAX_LINKS = 40
"""Links on the path to a file, the same limit as in Linux."""

NOT_OURS = frozenset(("site-packages", "node_modules"))
"""Folders in a package that hold no code of its own, and many files of others; hidden folders hold none either."""

_CODE = (".py", ".pyc", ".so", ".pyd")


@dataclass(frozen=True)
class Trust:
    """Owners whose code and configuration may be used, beside ourselves and root.

    Attributes:
        users: their ids.
        groups: ids of groups whose members may write it.
    """

    users: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()

    def owner(self, uid: int) -> bool:
        """Return whether a user may own code or configuration."""
        return uid in (0, os.geteuid()) or uid in self.users

    @cached_property
    def _writers(self) -> dict[int, tuple[str, list[str]]]:
        return {}

    def writers(self, gid: int) -> tuple[str, list[str]]:
        """Return the name of a group and its members that are not trusted; none if the group is ours alone."""
        if gid not in self._writers:
            self._writers[gid] = ("", []) if gid in self.groups else self._look_up(gid)
        return self._writers[gid]

    def _look_up(self, gid: int) -> tuple[str, list[str]]:
        import grp
        import pwd

        everybody = {one.pw_name: one for one in pwd.getpwall()}
        try:
            group = grp.getgrgid(gid)
            name, names = group.gr_name, set(group.gr_mem)
        except KeyError:
            # As in a container, where users have no names: our own group has our own number.
            name, names = str(gid), set() if gid == os.getegid() == os.geteuid() else {"others"}
        if gid:  # unused system accounts are in root's group for historical reasons
            names |= {one.pw_name for one in everybody.values() if one.pw_gid == gid}
        return name, sorted(one for one in names if one not in everybody or not self.owner(everybody[one].pw_uid))


def trust_of(environ: Mapping[str, str]) -> Trust:
    """Return the users and groups that the environment trusts, also for the configuration file itself.

    Raises:
        ConfigError: no such user or group.
    """
    from co2.config.checks import group_ids, user_ids

    ids: list[tuple[int, ...]] = []
    for variable, check in (("CO2_TRUSTED_USERS", user_ids), ("CO2_TRUSTED_GROUPS", group_ids)):
        found = environ.get(variable, "")
        try:
            ids.append(check(found))
        except ValueError as error:
            raise ConfigError(variable, f"found {found!r:.80}, expected {error}") from None
    return Trust(*ids)


def check_private(path: Path, trust: Trust | None = None) -> None:
    """Refuse a file or folder that others may write or replace.

    Args:
        path: of the file or folder.
        trust: owners accepted beside ourselves and root.

    Raises:
        ConfigError: others may write or replace it, or it is neither a file nor a folder; the text has the command
            that corrects it.
    """
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            raise ConfigError(
                str(path), f"it is {_KINDS.get(stat.S_IFMT(kind), 'something else')}, not a regular file"
            )
        if not hasattr(os, "geteuid"):
            return
        trust = trust or Trust()
        *way, (last, found) = _way(path)
        for step, status in way:
            _check(step, status, trust, path)
        _check(last, found, trust, None)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None


def check_code(place: Path, trust: Trust | None = None) -> None:
    """Refuse a package if others may write any of its code: all that can be imported from it, links followed.

    Args:
        place: its folder, or a single file.
        trust: owners accepted beside ourselves and root.

    Raises:
        ConfigError: others may write some of it, or there is too much to check.
    """
    trust = trust or Trust()
    check_private(place, trust)
    if not hasattr(os, "geteuid") or not place.is_dir():
        return
    waiting, seen, count = [place], {os.path.realpath(place)}, 0
    while waiting:
        for entry in _code_in(waiting.pop()):
            if (count := count + 1) > MAX_CHECKED:
                problem = (
                    f"it has more than {MAX_CHECKED} folders and files of code: keep everything that is not "
                    "code elsewhere"
                )
                raise ConfigError(str(place), problem)
            path = Path(entry.path)
            if entry.is_symlink():
                _check_link(path, trust)
            else:
                _check(path, entry.stat(), trust, None)
            real = os.path.realpath(path) if _is_folder(entry) and entry.name not in NOT_OURS else ""
            if real and real not in seen:
                seen.add(real)
                waiting.append(path)


def open_code(folder: Path, trust: Trust | None = None) -> dict[str, str]:
    """Return problems of code that others may write, by file name in a folder of packages; '' is the folder.

    Args:
        folder: that holds packages, and maybe code that they share.
        trust: owners accepted beside ourselves and root.
    """
    trust = trust or Trust()
    found: dict[str, str] = {}
    try:
        check_private(folder, trust)
    except ConfigError as error:
        return {"": str(error)}
    for entry in _code_in(folder):
        path = Path(entry.path)
        try:
            if entry.is_symlink() and not _can_be_followed(path):
                _check_link(path, trust)
            elif not _is_folder(entry) or Path(path, "__init__.py").is_file():
                check_code(path, trust)
        except ConfigError as error:
            found[entry.name] = str(error)
    return found


def _code_in(folder: Path) -> list["os.DirEntry[str]"]:
    """Return the entries of a folder that can be imported, or may contain importable files."""
    found: list[os.DirEntry[str]] = []
    with contextlib.suppress(OSError):  # nobody can import from there
        found = [entry for entry in os.scandir(folder) if _is_code(entry)]
    return sorted(found, key=lambda entry: entry.name)


def _is_code(entry: "os.DirEntry[str]") -> bool:
    if entry.name.startswith("."):
        return entry.name.endswith(_CODE) and not entry.is_symlink()  # editors lock files with links to nowhere
    if entry.is_symlink() and entry.name.isidentifier():
        return True  # whatever it is now, it may be a folder at the time of an import
    return entry.name.endswith(_CODE) or _is_folder(entry)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a circular link, or one to a place that we may not read
        return False


def _can_be_followed(link: Path) -> bool:
    try:
        link.stat()
    except OSError:
        return False
    return True


def _check_link(path: Path, trust: Trust) -> None:
    """Refuse a link if others may write on the path to its target, even if it leads nowhere yet.

    Raises:
        ConfigError: others may.
    """
    try:
        for step, status in _way(path):
            _check(step, status, trust, path)
    except OSError as error:
        missing = error.filename  # or a place that we may not read; None for a circle
    else:
        check_private(path, trust)
        return
    if missing is None:
        return
    folder = Path(missing).parent
    try:
        _check(folder, folder.lstat(), trust, None)
    except (ConfigError, OSError):
        raise ConfigError(
            str(path),
            (
                f"it is a link to {missing}, and other users could place code there that would run as this user; "
                "delete the link"
            ),
        ) from None


_KINDS = {
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def _way(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield every folder and link on the path, from the root, and at the end the path's target itself."""
    current, *parts = Path("/"), *(Path.cwd() / path).parts[1:]
    pending, links = parts[::-1], 0
    yield current, current.lstat()
    while pending:
        step = current / (part := pending.pop())
        if part == "..":
            current = current.parent
            continue
        status = step.lstat()
        yield step, status
        if not stat.S_ISLNK(status.st_mode):
            current = step
            continue
        if (links := links + 1) > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = step.readlink()
        current = Path("/") if target.is_absolute() else current
        pending += [part for part in reversed(target.parts) if part != "/"]


def _check(step: Path, status: os.stat_result, trust: Trust, wanted: Path | None) -> None:
    """Refuse one step on the path to ``wanted``, or the target itself.

    Raises:
        ConfigError: others may write it.
    """
    mode, uid = status.st_mode, status.st_uid
    if not trust.owner(uid) and not (wanted is not None and uid == _unmapped()):
        raise ConfigError(str(step), _whose(step, uid, wanted))
    if stat.S_ISLNK(mode) or (wanted is not None and mode & stat.S_ISVTX):
        return  # in a folder like /tmp each user may only touch his own files
    if mode & stat.S_IWOTH:
        who, bits = "every user", "o-w"
    elif mode & stat.S_IWGRP and (writers := trust.writers(status.st_gid))[1]:
        who, bits = f"the group {writers[0]} ({_listed(writers[1])})", "g-w"
    else:
        return
    so = f", and so replace {wanted}" if wanted is not None else ", so it is not used"
    ours = uid == os.geteuid() or not os.geteuid()
    if bits == "o-w" and mode & stat.S_ISVTX:  # as /tmp, which everybody needs as it is
        raise ConfigError(str(step), f"{who} may write to it{so}; keep it in a folder of your own")
    mend = (
        f"fix it with: chmod {bits} {shlex.quote(str(step))}" if ours else f"ask its owner {_name(uid)} to fix it"
    )
    also = (
        "; if that has no effect (exFAT, a network share), keep it on another disk"
        if bits == "o-w" and ours
        else ""
    )
    also += f"; or trust that group with CO2_TRUSTED_GROUPS={status.st_gid}" if bits == "g-w" else ""
    raise ConfigError(str(step), f"{who} may write to it{so}; {mend}{also}")


def _whose(step: Path, uid: int, wanted: Path | None) -> str:
    us, owner, trusting = _name(os.geteuid()), _name(uid), f"or trust that user with CO2_TRUSTED_USERS={uid}"
    if wanted is not None:
        so = f"could replace {wanted} and run code as {us}"
        return f"it belongs to {owner}, who {so}; move it to a folder that only {us} can write to, {trusting}"
    take = f"{'' if us == 'root' else 'sudo '}chown -h {shlex.quote(us)} {shlex.quote(str(step))}"
    return f"it belongs to {owner}, who could run code as {us}, so it is not used; fix it with: {take}; {trusting}"


def _name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _listed(names: Iterable[str]) -> str:
    first, more = [*names][:3], len([*names]) - 3
    return f"{', '.join(first)}{' and others' if more > 0 else ''}"


def _unmapped() -> int:
    """Return the id that stands for root in a user namespace that does not map root, as in sandboxes; else -1."""
    try:
        mapped = [line.split() for line in Path("/proc/self/uid_map").read_text("ascii").splitlines()]
        if any(int(first) == 0 for first, _, _ in mapped):
            return -1
        return int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
    except (OSError, ValueError):
        return -1
