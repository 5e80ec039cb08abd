"""Whose code and configuration are used: who can write them can run code as us."""

import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from co2.config import private
from co2.config.private import Trust, check_code, check_private, open_code, trust_of
from co2.errors import ConfigError

ME = os.geteuid()
OTHER = 54321 if ME != 54321 else 54322


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Let files belong to somebody else, as far as the check can see."""
    given: set[int] = set()
    check = private._check

    def look(step: Path, status: os.stat_result, *rest: object) -> None:
        values = [*status]
        values[stat.ST_UID] = OTHER if status.st_ino in given else status.st_uid
        check(step, os.stat_result(values), *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(private, "_check", look)
    return lambda path: given.add(path.lstat().st_ino)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say who is in the groups of this machine."""

    def have(*members: str, name: str = "artists", primary: tuple[str, ...] = ()) -> None:
        us = private._name(ME)
        users = [SimpleNamespace(pw_name=us, pw_uid=ME, pw_gid=7)]
        users += [
            SimpleNamespace(pw_name=one, pw_uid=OTHER, pw_gid=7 if one in primary else 8)
            for one in {*members, *primary} - {us}
        ]
        monkeypatch.setattr(pwd, "getpwall", lambda: users)
        monkeypatch.setattr(grp, "getgrgid", lambda gid: SimpleNamespace(gr_name=name, gr_mem=[*members]))
        look_up = Trust._look_up
        monkeypatch.setattr(Trust, "_look_up", lambda self, gid: look_up(self, 7))

    return have


def refused(check: Callable[..., None], *args: object) -> str:
    with pytest.raises(ConfigError) as caught:
        check(*args)
    return str(caught.value)


def test_what_belongs_to_somebody_else_is_refused(tmp_path: Path, give_away: Callable[[Path], None]) -> None:
    file = tmp_path / "it's mine.toml"
    file.write_text("")
    check_private(file)
    give_away(file)
    problem = refused(check_private, file)
    assert f"it belongs to user {OTHER}, who could run code as {private._name(ME)}" in problem
    assert "chown -h" in problem
    assert """it'"'"'s mine.toml'""" in problem, "quoted for the shell"
    assert f"CO2_TRUSTED_USERS={OTHER}" in problem
    check_private(file, Trust(users=(OTHER,)))


def test_nobody_is_advised_to_take_a_folder_on_the_way(tmp_path: Path, give_away: Callable[[Path], None]) -> None:
    file = tmp_path / "home" / "co2.toml"
    file.parent.mkdir()
    file.write_text("")
    give_away(file.parent)
    problem = refused(check_private, file)
    assert f"{file.parent}: it belongs to user {OTHER}, who could replace {file}" in problem
    assert "chown" not in problem
    check_private(file, Trust(users=(OTHER,)))


def test_a_link_of_somebody_else_is_refused(tmp_path: Path, give_away: Callable[[Path], None]) -> None:
    (tmp_path / "mine.toml").write_text("")
    (tmp_path / "co2.toml").symlink_to("mine.toml")
    check_private(tmp_path / "co2.toml")
    give_away(tmp_path / "co2.toml")
    assert f"user {OTHER}" in refused(check_private, tmp_path / "co2.toml")


@pytest.mark.parametrize("mode", [0o664, 0o620])
def test_a_group_of_our_own_may_write_it_and_no_other(
    tmp_path: Path, group: Callable[..., None], mode: int
) -> None:
    file = tmp_path / "spam.py"
    file.write_text("")
    file.chmod(mode)
    group()
    check_private(file)
    group(private._name(ME))
    check_private(file)
    group("bob", "carol")
    problem = refused(check_private, file)
    assert "the group artists (bob, carol) may write to it, so it is not used; fix it with: chmod g-w " in problem
    assert "CO2_TRUSTED_GROUPS=" in problem
    check_private(file, Trust(users=(OTHER,)))
    check_private(file, Trust(groups=(file.stat().st_gid,)))
    group(primary=("bob",))
    assert "artists (bob)" in refused(check_private, file)


def test_every_folder_on_the_way_counts(tmp_path: Path) -> None:
    (tmp_path / "open" / "deep").mkdir(parents=True)
    file = tmp_path / "open" / "deep" / "co2.toml"
    file.write_text("")
    check_private(file)
    (tmp_path / "open").chmod(0o777)
    problem = refused(check_private, file)
    assert problem.startswith(f"{tmp_path / 'open'}: every user may write to it, and so replace")
    assert f"chmod o-w {tmp_path / 'open'}" in problem
    (tmp_path / "open").chmod(0o1777)
    check_private(file)  # as in /tmp everybody may only touch what is his
    problem = refused(check_private, tmp_path / "open")  # but may put there what we load
    assert "every user may write to it, so it is not used; keep it in a folder of your own" in problem
    assert "chmod" not in problem, "for /tmp that would break the programs of all others"


def test_links_are_followed_on_their_whole_way(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "co2.toml").write_text("")
    (tmp_path / "open" / "hop").symlink_to("../mine/co2.toml")
    link = tmp_path / "co2.toml"
    link.symlink_to(tmp_path / "open" / "hop")
    check_private(link)
    (tmp_path / "open").chmod(0o777)
    assert f"{tmp_path / 'open'}: every user" in refused(check_private, link)
    (tmp_path / "round").symlink_to("round")
    assert "symbolic links" in refused(check_private, tmp_path / "round")


def test_neither_a_device_nor_a_pipe_gets_advice_for_its_mode(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe").chmod(0o666)
    for path in (Path(os.devnull), Path("/dev/zero"), tmp_path / "pipe"):
        problem = refused(check_private, path)
        assert "not a regular file" in problem
        assert "chmod" not in problem


def an_open_module(package: Path) -> Path:
    (package / "deep" / "deeper").mkdir(parents=True)
    (package / "deep" / "deeper" / "eggs.py").write_text("")
    return package / "deep" / "deeper" / "eggs.py"


def an_open_folder(package: Path) -> Path:
    (package / "deep").mkdir()
    return package / "deep"


def an_open_extension(package: Path) -> Path:
    (package / "_speedups.cpython-311-x86_64-linux-gnu.so").write_text("")
    return package / "_speedups.cpython-311-x86_64-linux-gnu.so"


def an_open_pyc(package: Path) -> Path:
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "spam.cpython-311.pyc").write_text("")
    return package / "__pycache__" / "spam.cpython-311.pyc"


def a_link_to_what_is_open(package: Path) -> Path:
    elsewhere = package.parent.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "eggs.py").write_text("")
    (package / "eggs.py").symlink_to(elsewhere / "eggs.py")
    return elsewhere


def a_folder_that_is_linked(package: Path) -> Path:
    elsewhere = package.parent.parent / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    (elsewhere / "deep" / "eggs.py").write_text("")
    (package / "deep").symlink_to(elsewhere / "deep")
    return package / "deep" / "eggs.py"


@pytest.mark.parametrize(
    "make",
    [
        an_open_module,
        an_open_folder,
        an_open_extension,
        an_open_pyc,
        a_link_to_what_is_open,
        a_folder_that_is_linked,
    ],
)
def test_all_that_can_be_imported_counts(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    package = tmp_path / "plugins" / "ham"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    culprit = make(package)
    assert open_code(package.parent) == {}
    culprit.chmod(0o777)
    assert str(culprit) in refused(check_code, package)
    assert [*open_code(package.parent)] == ["ham"]


def test_what_cannot_be_looked_at_hides_nothing_beside_it(tmp_path: Path) -> None:
    package = tmp_path / "ham"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for number in range(20):  # whichever a folder's order is
        (package / f"loop{number}").symlink_to(f"loop{number}")
        (package / f"loop{number}.py").symlink_to(f"loop{number}.py")
    check_code(package)
    (package / "spam.py").write_text("")
    (package / "spam.py").chmod(0o666)
    assert "spam.py" in refused(check_code, package)
    assert [*open_code(tmp_path)] == ["ham"]


@pytest.mark.parametrize("name", ["deep", "spam.py"])
@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_link_to_what_others_could_make_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    package, elsewhere = tmp_path / "plugins" / "ham", tmp_path / "elsewhere"
    package.mkdir(parents=True)
    elsewhere.mkdir()
    (package / "__init__.py").write_text("")
    (package / name).symlink_to(elsewhere / "later")
    (package.parent / name).symlink_to(elsewhere / "later")
    assert open_code(package.parent) == {}
    elsewhere.chmod(mode)
    assert str(elsewhere) in refused(check_code, package)
    assert sorted(open_code(package.parent)) == sorted([name, "ham"])


def test_what_is_a_file_now_may_be_a_folder_later(tmp_path: Path, give_away: Callable[[Path], None]) -> None:
    (tmp_path / "ham").mkdir()
    (tmp_path / "elsewhere").write_text("no code")
    (tmp_path / "ham" / "deep").symlink_to(tmp_path / "elsewhere")
    check_code(tmp_path / "ham")
    give_away(tmp_path / "elsewhere")
    assert "elsewhere" in refused(check_code, tmp_path / "ham")


def test_what_is_no_code_may_be_as_it_is_and_is_not_looked_at(tmp_path: Path) -> None:
    for name in ("readme.txt", ".hidden/spam.py", "node_modules/spam.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
        file.chmod(0o666)
    (tmp_path / "nowhere.py").symlink_to("nothing")
    check_code(tmp_path)


def test_what_lies_beside_the_packages_counts(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "helper.py").chmod(0o666)
    assert [*open_code(tmp_path)] == ["helper.py"]
    tmp_path.chmod(0o777)
    assert [*open_code(tmp_path)] == [""]


def test_the_number_of_looks_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        (tmp_path / f"module{number}.py").write_text("")
        (tmp_path / f"sound{number}.wav").write_text("")
    monkeypatch.setattr(private, "MAX_CHECKED", 20)
    check_code(tmp_path)
    monkeypatch.setattr(private, "MAX_CHECKED", 19)
    assert "more than 19 folders and files of code" in refused(check_code, tmp_path)


def test_whom_the_environment_trusts() -> None:
    assert trust_of({}) == Trust()
    assert trust_of({"CO2_TRUSTED_USERS": "root, 1000", "CO2_TRUSTED_GROUPS": "7"}) == Trust((0, 1000), (7,))
    with pytest.raises(ConfigError, match=r"CO2_TRUSTED_USERS: found 'nobody-at-all', expected a list of users"):
        trust_of({"CO2_TRUSTED_USERS": "nobody-at-all"})


@pytest.mark.parametrize(("ids", "may"), [((7, 7, 7), True), ((7, 7, 8), False), ((7, 8, 8), False)])
def test_a_group_without_a_name_is_ours_if_it_has_our_own_number(
    monkeypatch: pytest.MonkeyPatch, ids: tuple[int, int, int], may: bool
) -> None:
    gid, egid, euid = ids

    def nameless(_gid: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwall", lambda: [])
    monkeypatch.setattr(grp, "getgrgid", nameless)
    monkeypatch.setattr(os, "getegid", lambda: egid)
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    assert Trust().writers(gid) == ("7", [] if may else ["others"])
