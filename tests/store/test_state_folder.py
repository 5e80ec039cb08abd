"""The state folder: who we are, readable by us only, used by one process at a time."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from co2.errors import StateError
from co2.store.state_folder import StateFolder, default_state_path, holder_of
from tests.needs import ROOT_ONLY

HOLDER = """
import sys
from pathlib import Path
from co2.store.state_folder import StateFolder
state = StateFolder.open(Path(sys.argv[1]))
print(state.origin, flush=True)
sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def holder(path: Path) -> subprocess.Popen[str]:
    """A process that has the folder open, until its stdin ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def refused(path: Path) -> str:
    with pytest.raises(StateError) as error:
        StateFolder.open(path)
    return str(error.value)


# ---- what is made --------------------------------------------------------------------------------------


def test_folders_and_files_are_ours_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with StateFolder.open(tmp_path / "a" / "state") as state:
            assert state.logs == tmp_path / "a" / "state" / "logs"
    finally:
        os.umask(before)
    found = {path.name: mode(path) for path in (tmp_path / "a").rglob("*")}
    assert found == {"state": 0o700, "logs": 0o700, "lock": 0o600, "origin": 0o600, "secret": 0o600}


def test_names_of_what_is_made_once_are_on_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_sync: list[set[str]] = []
    sizes: list[int] = []
    fsync = os.fsync

    def syncing(descriptor: int) -> None:
        fsync(descriptor)
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            at_sync.append({path.name for path in tmp_path.iterdir()})
        else:
            sizes.append(found.st_size)

    monkeypatch.setattr(os, "fsync", syncing)
    with StateFolder.open(tmp_path):
        assert {"origin", "secret"} <= at_sync[-1]
        assert sizes == [(tmp_path / name).stat().st_size for name in ("origin", "secret")], "with what is in them"


def test_files_of_before_that_others_could_read_are_made_private(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("")
    with StateFolder.open(tmp_path / "state") as state:
        files = [state.path / name for name in ("log.db", "log.db-wal", "logs/co2.log", "origin")]
        for path in files:
            path.touch()
            path.chmod(0o644)
        (state.path / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").chmod(0o644)
    with StateFolder.open(tmp_path / "state"):
        assert [mode(path) for path in files] == [0o600] * 4
        assert mode(tmp_path / "elsewhere") == 0o644


def test_the_origin_is_made_once_and_kept(tmp_path: Path) -> None:
    origins = set()
    for _ in range(3):
        with StateFolder.open(tmp_path / "state") as state:
            origins.add(state.origin)
    (origin,) = origins
    assert re.fullmatch("[0-9a-f]{16}", origin)
    assert (tmp_path / "state" / "origin").read_text() == origin + "\n"
    with StateFolder.open(tmp_path / "other") as other:
        assert other.origin != origin


def test_an_origin_of_ones_own_is_taken(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "origin").write_text("stage-left\n")
    with StateFolder.open(tmp_path / "state") as state:
        assert state.origin == "stage-left"


@pytest.mark.parametrize("content", [b"", b"two words", b"a@b", b"\xff\xfe", b"\x1b[2J", b"x" * 10_000])
def test_an_origin_that_is_none_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "origin").write_bytes(content)
    assert "does not contain an origin" in refused(tmp_path / "state")
    (tmp_path / "state" / "origin").unlink()
    with StateFolder.open(tmp_path / "state"):
        pass


def test_what_a_crash_left_behind_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / f".origin.{os.getpid()}").write_text("half of an or")
    with StateFolder.open(tmp_path / "state") as state:
        assert re.fullmatch("[0-9a-f]{16}", state.origin)


def test_the_default_is_in_the_platforms_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    if sys.platform == "linux":
        assert default_state_path("relay", 2003) == Path("/somewhere/co2/relay-2003")
    assert default_state_path("satellite", 1).name == "satellite-1"


# ---- the lock ------------------------------------------------------------------------------------------


def test_a_second_opener_is_told_who_has_it(tmp_path: Path) -> None:
    with StateFolder.open(tmp_path / "state"):
        text = refused(tmp_path / "state")
        assert f"is in use by process {os.getpid()};" in text
        assert "--state" in text
    with StateFolder.open(tmp_path / "state"):
        pass


def test_another_process_has_it(tmp_path: Path) -> None:
    with holder(tmp_path / "state") as process:
        assert process.stdout is not None
        origin = process.stdout.readline().strip()
        assert f"is in use by process {process.pid};" in refused(tmp_path / "state")
        _, _ = process.communicate(timeout=10)
    with StateFolder.open(tmp_path / "state") as state:
        assert state.origin == origin


def test_the_lock_of_a_process_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    with holder(tmp_path / "state") as process:
        assert process.stdout is not None
        origin = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert (tmp_path / "state" / "lock").read_text() == f"{process.pid}\n", "it had no time to clean up"
    with StateFolder.open(tmp_path / "state") as state:
        assert state.origin == origin
        assert f"process {os.getpid()};" in refused(tmp_path / "state")


def test_a_lock_file_that_says_anything_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "lock").write_bytes(b"\x1b[2J\xff" * 100)
    with StateFolder.open(tmp_path / "state"):
        assert f"process {os.getpid()};" in refused(tmp_path / "state")


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    state = StateFolder.open(tmp_path / "state")
    state.close()
    state.close()


def test_a_failed_opening_gives_the_lock_back(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "origin").write_text("no origin")
    for _ in range(2):
        assert "does not contain an origin" in refused(tmp_path / "state")


def test_who_holds_a_folder_can_be_asked_without_changing_it(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "state") == ""
    assert not (tmp_path / "state").exists()
    with StateFolder.open(tmp_path / "state"):
        assert holder_of(tmp_path / "state") == str(os.getpid())
        (tmp_path / "state" / "lock").write_text("")
        assert holder_of(tmp_path / "state") == "unknown"
    assert holder_of(tmp_path / "state") == ""


# ---- a new identity ------------------------------------------------------------------------------------


def test_a_new_identity_sets_aside_what_waited_under_the_old_one(tmp_path: Path) -> None:
    with StateFolder.open(tmp_path / "state") as state:
        before, secret = state.origin, state.secret
        (state.path / "outbox.db").write_text("waiting")
        (state.path / "outbox.db-wal").write_text("more")
        aside = state.renew_identity()
        assert aside == [state.path / f"outbox.db.of-{before}"]
        assert aside[0].read_text() == "waiting"
        assert Path(f"{aside[0]}-wal").read_text() == "more"
        assert not (state.path / "outbox.db").exists()
        assert state.origin != before
        assert state.secret != secret
        renewed = state.origin, state.secret
    with StateFolder.open(tmp_path / "state") as state:
        assert (state.origin, state.secret) == renewed
        assert state.renew_identity() == []


def test_a_new_identity_whose_old_messages_cannot_be_set_aside_is_refused(tmp_path: Path) -> None:
    with StateFolder.open(tmp_path / "state") as state:
        (state.path / "outbox.db").write_text("waiting")
        (state.path / f"outbox.db.of-{state.origin}" / "in the way").mkdir(parents=True)
        with pytest.raises(StateError, match=r"outbox\.db cannot be set aside"):
            state.renew_identity()
        assert (state.path / "outbox.db").read_text() == "waiting"


@pytest.mark.parametrize("content", [b"", b"abc", b"g" * 64, b"\xff" * 64])
def test_a_secret_that_is_none_is_told(content: bytes, tmp_path: Path) -> None:
    with StateFolder.open(tmp_path / "state"):
        pass
    (tmp_path / "state" / "secret").write_bytes(content)
    assert re.search(r"secret .* secret \(64 hexadecimal", refused(tmp_path / "state"))


@pytest.mark.parametrize("name", ["origin", "secret"])
def test_an_identity_on_a_disk_that_fails_is_told(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StateFolder.open(tmp_path / "state"):
        pass
    read_text = Path.read_text

    def failing(path: Path, *args: str, **more: str) -> str:
        if path.name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_text(path, *args, **more)

    monkeypatch.setattr(Path, "read_text", failing)
    assert f"{name} cannot be read: Input/output error" in refused(tmp_path / "state")


def test_an_identity_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    assert "origin cannot be written: No space left on device" in refused(tmp_path / "state")
    monkeypatch.undo()
    with StateFolder.open(tmp_path / "state") as state:
        assert re.fullmatch("[0-9a-f]{16}", state.origin)


# ---- folders that cannot be used -----------------------------------------------------------------------


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("mine")
    text = refused(tmp_path / "state")
    assert str(tmp_path / "state") in text
    assert "--state" in text
    refused(tmp_path / "state" / "below")
    assert (tmp_path / "state").read_text() == "mine"


def test_a_file_in_place_of_the_logs(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "logs").write_text("mine")
    assert str(tmp_path / "state" / "logs") in refused(tmp_path / "state")


@pytest.mark.parametrize("name", ["lock", "origin"])
def test_a_folder_in_place_of_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "state" / name).mkdir(parents=True, mode=0o700)
    (tmp_path / "state").chmod(0o700)
    assert str(tmp_path / "state" / name) in refused(tmp_path / "state")


@pytest.mark.parametrize("name", ["", "logs", "origin", "lock"])
def test_a_link_is_not_followed(name: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    if name:
        (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / name).symlink_to(tmp_path / "elsewhere" / "file" if name else tmp_path / "elsewhere")
    assert str(tmp_path / "state") in refused(tmp_path / "state")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(("name", "bits"), [("", 0o770), ("", 0o707), ("logs", 0o777), ("origin", 0o666)])
def test_what_others_may_write_is_refused(name: str, bits: int, tmp_path: Path) -> None:
    with StateFolder.open(tmp_path / "state"):
        pass
    (tmp_path / "state" / name).chmod(bits)
    text = refused(tmp_path / "state")
    assert "is writable by other users; fix it with: chmod" in text
    assert str(tmp_path / "state" / name) in text


def test_a_folder_that_we_may_not_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", denied)  # file modes do not keep root out
    text = refused(tmp_path / "closed" / "state")
    assert "cannot be created: Permission denied" in text
    assert str(tmp_path / "closed" / "state") in text


@pytest.mark.skipif(sys.platform != "linux", reason="/proc can nowhere else be had")
def test_a_place_where_nobody_may_write() -> None:
    text = refused(Path("/proc/co2-state"))
    assert "state folder /proc/co2-state cannot be created" in text
    assert "--state" in text


@ROOT_ONLY
def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    os.chown(tmp_path / "state", 65534, 65534)
    assert "belongs to another user" in refused(tmp_path / "state")


@pytest.mark.parametrize("before", [0o755, 0o711, 0o750])
def test_a_folder_that_others_may_read_becomes_private(tmp_path: Path, before: int) -> None:
    path = tmp_path / "state"
    (path / "logs").mkdir(parents=True)
    (path / "logs").chmod(before)
    path.chmod(before)
    with StateFolder.open(path):
        assert (mode(path), mode(path / "logs")) == (0o700, 0o700)


def test_a_folder_with_something_else_in_it_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "my things"
    path.mkdir()
    (path / "index.html").write_text("")
    (path / "index.html").chmod(0o644)
    path.chmod(0o755)
    text = refused(path)
    assert "holds something else (index.html)" in text
    assert f"--state '{path / 'state'}'" in text
    assert (mode(path), mode(path / "index.html")) == (0o755, 0o644)


@pytest.mark.parametrize("there", ["lost+found/", ".gitkeep", "origin", "lock"])
def test_a_folder_that_is_empty_or_was_one_is_taken(tmp_path: Path, there: str) -> None:
    path = tmp_path / "state"
    path.mkdir()
    if there.endswith("/"):
        (path / there).mkdir()
    else:
        (path / there).write_text("abc\n")
        (path / there).chmod(0o600)
        (path / "more").write_text("")
    if there == ".gitkeep":
        (path / "more").unlink()
    with StateFolder.open(path) as state:
        assert state.origin


def test_the_advice_for_its_mode_can_be_pasted(tmp_path: Path) -> None:
    path = tmp_path / "my state; reboot"
    path.mkdir()
    path.chmod(0o777)
    assert f"chmod 700 '{path}'; if that has no effect (exFAT, a network share)" in refused(path)
