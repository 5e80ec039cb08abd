"""Whose an origin is gets to disk before its satellite joins, many in one commit; a bad disk holds nobody up."""

import asyncio
import logging
from pathlib import Path

import apsw
import pytest

from co2.errors import StorageFailed
from co2.host_id import HostId
from co2.protocol.relay.origins import OriginBook, hash_of_token
from co2.relay.member_keeper import MAX_AWAY_WRITTEN, MemberKeeper
from co2.store.member_store import MemberStore


class Store(MemberStore):
    """Counts commits, and fails when told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sizes: list[int] = []
        self.error: Exception | None = None

    def write(self, changes: object) -> None:
        if self.error is not None:
            raise self.error
        self.sizes.append(len(changes))  # type: ignore[arg-type]
        super().write(changes)  # type: ignore[arg-type]


def claim(book: OriginBook, origin: str) -> bool:
    return book.claim(HostId(origin, "10.0.0.2", 2004), hash_of_token("ours"))


def test_many_first_hellos_are_few_commits(tmp_path: Path) -> None:
    async def go() -> None:
        store, book = Store(tmp_path / "members.db"), OriginBook()
        keeper = MemberKeeper(book, store)
        waiting = []
        for number in range(500):
            assert claim(book, f"o{number}")
            waiting.append(asyncio.ensure_future(keeper.kept()))
            if number % 100 == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        assert sum(store.sizes) == 500
        assert len(store.sizes) <= 6
        await keeper.close()
        again = MemberStore.open(tmp_path / "members.db")
        assert len(again.known()) == 500
        again.close()

    asyncio.run(go())


def test_a_disk_that_does_not_take_it_holds_nobody_up_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def go() -> None:
        store, book = Store(tmp_path / "members.db"), OriginBook()
        keeper = MemberKeeper(book, store)
        store.error = apsw.FullError("database or disk is full")
        for origin in ("a", "b", "c"):
            claim(book, origin)
            async with asyncio.timeout(5):
                await keeper.kept()
        store.error = None
        async with asyncio.timeout(5):
            while keeper.keep() or not store.sizes:
                await asyncio.sleep(0.01)
        assert store.sizes == [3]
        await keeper.close()

    with caplog.at_level(logging.WARNING, "co2.relay"):
        asyncio.run(go())
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "disk is full" in caplog.text


def test_an_error_of_ours_holds_nobody_up_either(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def go() -> None:
        store, book = Store(tmp_path / "members.db"), OriginBook()
        keeper = MemberKeeper(book, store)
        store.error = ValueError("a bug")
        claim(book, "a")
        async with asyncio.timeout(5):
            await keeper.kept()
        store.error = None
        claim(book, "b")
        async with asyncio.timeout(5):
            await keeper.kept()
        assert store.sizes == [2]
        await keeper.close()

    asyncio.run(go())
    assert "a bug" in caplog.text


def test_all_who_have_joined_are_known_after_the_end_however_many(tmp_path: Path) -> None:
    async def go() -> None:
        keeper = MemberKeeper(OriginBook(), Store(tmp_path / "members.db"))
        for number in range(3 * MAX_AWAY_WRITTEN):
            keeper.away.joined(HostId(f"o{number}", "10.0.0.2", 2004), (), ())
        keeper.keep_away()
        await keeper.close()
        again = MemberStore.open(tmp_path / "members.db")
        assert len(again.away()) == 3 * MAX_AWAY_WRITTEN
        again.close()

    asyncio.run(go())


def test_without_the_file_nobody_would_know_whose_an_origin_is(tmp_path: Path) -> None:
    (tmp_path / "members.db").mkdir()
    with pytest.raises(StorageFailed, match=r"members\.db cannot be opened"):
        MemberKeeper.open(tmp_path / "members.db", lambda _origin: "")


def test_those_that_join_together_leave_the_event_loop_a_turn_each(tmp_path: Path) -> None:
    async def go() -> list[int]:
        keeper = MemberKeeper(book := OriginBook(), Store(tmp_path / "members.db"))
        loop, turn, joined = asyncio.get_running_loop(), 0, list[int]()

        def count() -> None:
            nonlocal turn
            turn += 1
            loop.call_soon(count)

        async def join() -> None:
            await keeper.kept()
            joined.append(turn)

        count()
        for number in range(20):
            claim(book, f"o{number}")
        await asyncio.gather(*(join() for _ in range(20)))
        await keeper.close()
        return joined

    joined = asyncio.run(go())
    assert len(set(joined)) == 20
