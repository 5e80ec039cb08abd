"""The files of a database are ours alone."""

import os
from pathlib import Path

import apsw
import pytest

from co2.store.sqlite import check_files, close_database, mark_damaged, open_database


def modes(folder: Path) -> dict[str, str]:
    return {path.name: f"{path.stat().st_mode & 0o777:o}" for path in folder.iterdir()}


def test_nobody_else_reads_the_files_of_a_database(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    before = os.umask(0)
    try:
        db = open_database(path)
        db.execute("CREATE TABLE t (x)")
        mark_damaged(path)
        assert modes(tmp_path) == dict.fromkeys(
            ("a.sqlite", "a.sqlite-wal", "a.sqlite-shm", "a.sqlite.damaged"), "600"
        )
        close_database(db, tidy=False)
    finally:
        os.umask(before)


@pytest.mark.parametrize("there", [None, b""])
def test_an_empty_database_beside_a_wal_with_something_in_it_is_damaged(
    tmp_path: Path, there: bytes | None
) -> None:
    path = tmp_path / "a.sqlite"
    if there is not None:
        path.write_bytes(there)
    wal = tmp_path / "a.sqlite-wal"
    wal.write_bytes(b"")
    check_files(path)
    wal.write_bytes(b"frames")
    with pytest.raises(apsw.CorruptError, match="its WAL is not"):
        check_files(path)
    path.write_bytes(b"pages")
    check_files(path)
