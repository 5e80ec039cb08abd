"""Recovery: bring the journal of a process that crashed into the log's database."""

import logging
from pathlib import Path

import apsw

from co2.errors import BadRequest
from co2.store.commit import Commit, decode_commit, together
from co2.store.journal import SUFFIX, Journal
from co2.store.log_file import LogFile
from co2.store.log_writer import reserve_of

__all__ = ["recover"]

_logger = logging.getLogger("co2.relay")


def recover(file: LogFile, journal: Journal, path: Path) -> None:
    """Write the journal's commits into the database. On a full disk the log's reserve is deleted to make room.

    Behind a damaged record, the next commit carries its own position: readers see the hole as a gap.

    Raises:
        apsw.FullError: there is no room even so.
        apsw.Error, OSError: the disk failed.
    """
    end = int(file.read_meta("end"))
    commits: list[Commit] = []
    filling = left_out = 0
    for filling, data in journal.records():  # noqa: B007 - the last one's filling is done
        try:
            commit = decode_commit(data)
        except BadRequest:
            left_out += 1
            continue
        if commit.entries and commit.entries[0].position <= end:
            left_out += 1
            continue
        commits.append(commit)
        end = commit.end if commit.entries else end
    if left_out:
        _logger.error(
            "%d commits of messages in %s%s cannot be recovered into the log and are lost: another version "
            "of co2 wrote them. Stop a relay cleanly before another version replaces it",
            left_out, path, SUFFIX,
        )  # fmt: skip
    if not commits:
        return
    try:
        _bring_in(file, commits, filling)
    except apsw.FullError:
        file.rollback()
        reserve_of(path).unlink(missing_ok=True)
        _bring_in(file, commits, filling)
    journal.begin(filling)


def _bring_in(file: LogFile, commits: list[Commit], filling: int) -> None:
    whole = together(commits)
    file.begin()
    file.insert(commits)
    file.write_marks(whole.marks.items())
    file.write_ids(whole.ids, whole.forgotten)
    for key, value in whole.meta.items():
        file.write_meta(key, value)
    file.write_meta("bytes", int(file.read_meta("bytes")) + sum(commit.size for commit in commits))
    file.write_meta("ran", whole.at)
    file.write_meta("wall", whole.wall)
    file.write_meta("journal", filling)
    file.commit()
