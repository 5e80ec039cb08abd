"""The oracles find bugs: each of these, planted in the product, within a thousand seeds."""

import pytest

from tests.simulation.bugs import BUGS
from tests.simulation.runner import search

FOUND_AT: dict[str, int] = {
    "forecast of repeats": 5,
    "forecast past what waits": 6,
    "forecast without interests": 1,
    "forecast past the outbox": 1,
    "acknowledged before the commit": 0,
    "durable stream given uncommitted messages": 1,
    "log id not changed": 218,
    "older receipts forgotten": 412,
    "unknown run accepted": 9,
    "origins belong to nobody": 9,
    "rolled back without a receipt": 9,
    "receipts not checked": 9,
    "claims are marks": 3,
    "loss told without a receipt": 3,
    "begins forgotten": 0,
    "loss not told": 218,
    "own messages given back": 0,
    "unnumbered messages passed on at once": 6,
    "drain to the head": 5,
    "repeats appended": 1,
    "fsync skipped": 0,
    "marks not in the same transaction": 31,
    "positions used again": 1,
    "gap not told on retention": 10,
    "uncommitted leaves memory": 7,
    "read off by one": 1,
    "read for each replay": 10,
    "patterns not counted": 18,
    "brake never holds": 18,
    "marks forgotten by age": 18,
    "cursor off by one": 6,
    "dedupe by a window": 1,
    "epoch ignored": 23,
    "seen map ignored": 1,
    "live position moved by a replay": 1287,
    "skip computed wrong": 85,
    "interests lost after reconnect": 1,
    "interest lost in hello": 24,
    "what was on its way counts": 0,
    "lost hello moves packages": 257,
    "live message takes a seq": 0,
    "gap forgotten at a restart": 5,
    "frame cut anew when sent again": 9,
    "old epochs sent after the new": 17,
    "outbox forgets on write": 1,
    "outbox rows deleted early": 1,
    "outbox not read at the start": 33,
    "outbox not read back": 1,
    "cursors not read": 5,
    "poison not counted": 1,
    "repeat not marked": 1,
    "message of a death skipped": 1,
    "window forgotten at a death": 1,
    "room not told": 0,
    "dropped not told": 321,
    "aged by the wall clock": 31,
    "journal not synced": 0,
    "journal not read at the start": 10,
    "told to wait for ever": 80,
    "full disk ends links": 1,
    "refused frame moves the mark": 1,
    "snapshot too new": 0,
    "snapshot too old": 3,
    "snapshot doubled": 0,
    "snapshot skips what came meanwhile": 3,
    "last values lost at a restart": 15,
    "forgotten value returns": 41,
    "frames without names not read": 5,
    "last values before they are on disk": 15,
    "older values follow siblings": 3,
}
"""A seed that finds it, so that this takes seconds; where it does not any more, it is looked for from 0 on."""

SEEDS = 1000


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", BUGS)
def test_it_is_found(name: str) -> None:
    outcome = search(name, [FOUND_AT[name], *range(SEEDS)])
    assert outcome is not None, f"{BUGS[name].breaks}: nobody notices"
    assert outcome.oracle[0] in BUGS[name].oracles, outcome.text


def test_there_are_enough_of_them_and_each_says_what_it_breaks() -> None:
    assert len(BUGS) >= 20
    assert set(FOUND_AT) == set(BUGS)
    assert all(bug.breaks for bug in BUGS.values())
