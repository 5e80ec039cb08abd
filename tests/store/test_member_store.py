"""What a relay knows of its members is on disk, beside the log, with what others have added to the file."""

from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from co2.protocol.relay.away import Away
from co2.protocol.relay.origins import KnownOrigin, OriginBook
from co2.store.member_store import MEMBERS_FILE, MemberStore
from co2.store.sqlite import mark_damaged

HAM = KnownOrigin("ham", b"\x01" * 32, "10.0.0.2", 7.5, published=True)
SPAM = KnownOrigin("spam", b"", "10.0.0.3", 8.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / MEMBERS_FILE


def test_what_was_written_is_there_again(path: Path) -> None:
    store = MemberStore.open(path)
    store.write({"spam": SPAM, "ham": HAM, "eggs": KnownOrigin("eggs", b"x", "10.0.0.4", 9.0)})
    store.write({"eggs": None})
    store.write({"spam": KnownOrigin("spam", b"y" * 32, "10.0.0.3", 8.5)})
    store.close()
    store = MemberStore.open(path)
    assert store.known() == [HAM, KnownOrigin("spam", b"y" * 32, "10.0.0.3", 8.5)]
    assert store.replaced == ""
    assert path.stat().st_mode & 0o077 == 0
    store.close()


def test_columns_that_it_does_not_know_stay(path: Path) -> None:
    store = MemberStore.open(path)
    store.write({"ham": HAM})
    other = apsw.Connection(str(path))
    other.execute("ALTER TABLE member ADD COLUMN colour TEXT")
    other.execute("UPDATE member SET colour = 'red'")
    other.close()
    store.write({"ham": KnownOrigin("ham", HAM.token, "10.0.0.2", 7.5), "spam": SPAM})
    assert store._db.execute("SELECT origin, colour FROM member").fetchall() == [("ham", "red"), ("spam", None)]
    store.close()


@pytest.mark.parametrize("damage", ["text", "version", "page"])
def test_a_file_that_cannot_be_read_is_set_aside(path: Path, damage: str) -> None:
    store = MemberStore.open(path)
    store.write({f"o{number}": KnownOrigin(f"o{number}", b"z" * 32, "10.0.0.2", 0.0) for number in range(2000)})
    store.close()
    if damage == "text":
        path.write_text("no database " * 10_000)
    elif damage == "version":
        other = apsw.Connection(str(path))
        other.execute("PRAGMA user_version = 99")
        other.close()
    else:
        data = bytearray(path.read_bytes())
        data[16_384:32_768] = bytes(16_384)
        path.write_bytes(data)
    store = MemberStore.open(path)
    assert store.known() == []
    assert "kept as members.db.bad-" in store.replaced
    assert len(list(path.parent.glob("members.db.bad-*Z"))) == 1
    store.close()


@pytest.mark.parametrize("text", ["spoilt", "10.0.0.99", "spoilt@10.0.0.98:2004"])
def test_a_row_with_damaged_text_is_left_out(path: Path, text: str) -> None:
    store = MemberStore.open(path)
    store.write({"ham": HAM, "spoilt": KnownOrigin("spoilt", b"z" * 32, "10.0.0.99", 9.0)})
    away = {one: Away(one, f"{one}@10.0.0.98:2004", 7.5, True, ("m",), ("p",)) for one in ("ham", "spoilt")}
    store.write_away(away, (), 8.0)
    store.close()
    data = path.read_bytes()
    assert text.encode() in data
    path.write_bytes(data.replace(text.encode(), b"\xff" + text.encode()[1:]))  # no UTF-8 any more
    store = MemberStore.open(path)
    assert HAM in store.known()
    assert away["ham"] in store.away()
    assert len(store.known()) + len(store.away()) < 4
    store.close()


def test_rows_without_an_origin_are_left_out(path: Path) -> None:
    """All other columns refuse NULL, and a file in which they have it is set aside."""
    store = MemberStore.open(path)
    ham = Away("ham", "ham@10.0.0.98:2004", 7.5, True, ("m",), ("p",))
    store.write({"ham": HAM, "spam": SPAM})
    store.write_away({"ham": ham, "spam": Away("spam", "spam@10.0.0.99:2004", 7.5, True, (), ())}, (), 8.0)
    store._db.execute("UPDATE member SET origin = NULL WHERE origin = 'spam'")
    store._db.execute("UPDATE away SET origin = NULL WHERE origin = 'spam'")
    store.close()
    store = MemberStore.open(path)
    assert (store.known(), store.away(), store.replaced) == ([HAM], [ham], "")
    store.close()


def test_who_is_away_is_in_the_order_in_which_they_went_whatever_the_clock_said(path: Path) -> None:
    def row(origin: str, at: float, claims: dict[str, int], methods: tuple[str, ...] = ("m",)) -> Away:
        return Away(origin, f"{origin}@10.0.0.98:2004", at, False, methods, (), claims)

    store = MemberStore.open(path)
    first, second, third = row("a", 900.0, {"m": 1, "n": 2}), row("b", 5.0, {"m": 3}), row("c", 700.0, {})
    store.write_away({"c": third, "a": first, "b": second}, ("a", "b", "c"), 900.0)
    store.write_away({"a": row("a", 901.0, {"m": 1, "n": 2})}, ("b", "c"), 901.0)
    store.write_away({"b": second}, ("c",), 5.0)
    forgotten = row("a", 901.0, {}, ())
    store.write_away({"a": forgotten}, ("c",), 6.0)
    store.close()
    store = MemberStore.open(path)
    assert store.away() == [forgotten, second, row("c", 6.0, {})], "who was here when the relay ended went last"
    store.close()


def test_a_file_in_which_nobody_wrote_claims_is_read(path: Path) -> None:
    store = MemberStore.open(path)
    ham = Away("ham", "ham@10.0.0.98:2004", 7.5, True, ("m",), ("p",), {"m": 7})
    store.write_away({"ham": ham}, (), 8.0)
    store._db.execute("ALTER TABLE away DROP COLUMN claims")
    store.close()
    store = MemberStore.open(path)
    assert store.away() == [Away("ham", "ham@10.0.0.98:2004", 7.5, True, ("m",), ("p",))]
    store.write_away({"ham": ham}, (), 8.0)
    assert store.away() == [ham]
    store._db.execute("UPDATE away SET claims = ?", (b"\x81\xa1m\xcf" + b"\xff" * 8,))  # no number that is given
    assert store.away() == [Away("ham", "ham@10.0.0.98:2004", 7.5, True, ("m",), ("p",))]
    store.close()


def test_a_write_that_fails_changes_nothing(path: Path) -> None:
    store = MemberStore.open(path)
    store.write({"ham": HAM})
    store._db.execute("PRAGMA max_page_count = 1")
    many = {f"o{number}": KnownOrigin(f"o{number}", b"z" * 32, "10.0.0.2", 0.0) for number in range(5000)}
    with pytest.raises(apsw.FullError):
        store.write({"ham": None, **many})
    assert store.known() == [HAM]
    store.close()


def test_who_is_away_stays_as_it_was_when_a_write_fails(path: Path) -> None:
    store = MemberStore.open(path)
    ham = Away("ham", "ham@10.0.0.98:2004", 7.5, True, ("m",), ("p",))
    store.write_away({"ham": ham}, (), 8.0)
    store._db.execute("PRAGMA max_page_count = 1")
    many = {one: Away(one, f"{one}@10.0.0.98:2004", 7.5, True, ("m",), ()) for one in map(str, range(5000))}
    with pytest.raises(apsw.FullError):
        store.write_away({"ham": None, **many}, (), 9.0)
    assert store.away() == [ham]
    store.close()


def test_names_are_kept_with_their_origins(path: Path) -> None:
    store = MemberStore.open(path)
    store.write({"ham": msgspec.structs.replace(HAM, name="foyer-pi"), "spam": SPAM})
    store.close()
    store = MemberStore.open(path)
    assert [(one.origin, one.name) for one in store.known()] == [("ham", "foyer-pi"), ("spam", "")]
    store.write({"ham": msgspec.structs.replace(HAM, name="stage-pi")})
    assert store.known()[0].name == "stage-pi"
    store.close()


def test_a_file_in_which_nobody_has_a_name_is_read(path: Path) -> None:
    store = MemberStore.open(path)
    store.write({"ham": msgspec.structs.replace(HAM, name="foyer-pi")})
    store._db.execute("ALTER TABLE member DROP COLUMN name")
    store.close()
    store = MemberStore.open(path)
    assert (store.known(), store.replaced) == ([HAM], "")
    store.write({"ham": msgspec.structs.replace(HAM, name="foyer-pi")})
    assert store.known()[0].name == "foyer-pi"
    store.close()


def test_a_name_outlives_a_relay_older_than_names(path: Path) -> None:
    """It writes the columns that it knows, into the same file."""
    store = MemberStore.open(path)
    store.write({"ham": msgspec.structs.replace(HAM, name="foyer-pi")})
    store._db.execute(
        "INSERT INTO member (origin, token, address, first_seen, published) "
        "VALUES ('ham', x'00', '10.0.0.9', 1, 0) "
        "ON CONFLICT (origin) DO UPDATE SET token = excluded.token, address = excluded.address"
    )
    assert [(one.address, one.name) for one in store.known()] == [("10.0.0.9", "foyer-pi")]
    store.close()


def test_a_damaged_name_leaves_its_owner(path: Path) -> None:
    store = MemberStore.open(path)
    store.write({"ham": msgspec.structs.replace(HAM, name="foyer-pi")})
    store._db.execute("UPDATE member SET name = x'ff00'")
    (known,) = store.known()
    assert (known.token, OriginBook([known]).names.get("ham")) == (HAM.token, "")
    store.close()


def test_a_file_that_was_found_damaged_is_set_aside_at_the_next_start(path: Path) -> None:
    store = MemberStore.open(path)
    store.write({"ham": HAM})
    store.close()
    mark_damaged(path)
    store = MemberStore.open(path)
    assert (store.known(), "already found damaged" in store.replaced) == ([], True)
    store.close()


def test_a_satellite_that_is_forgotten_is_gone(path: Path) -> None:
    store = MemberStore.open(path)
    rows = {one: Away(one, f"{one}@10.0.0.98:2004", 7.5, True, (), ()) for one in ("ham", "spam")}
    store.write_away(rows, (), 8.0)
    store.write_away({"ham": None}, (), 9.0)
    assert store.away() == [rows["spam"]]
    store.close()


def test_a_row_with_no_host_id_is_left_out_and_the_ones_behind_it_are_read(path: Path) -> None:
    store = MemberStore.open(path)
    rows = {one: Away(one, f"{one}@10.0.0.98:2004", 7.5, True, (), ()) for one in ("ham", "spam", "eggs")}
    store.write_away(rows, (), 8.0)
    store._db.execute("UPDATE away SET host_id = 'nonsense' WHERE origin = 'ham'")
    assert store.away() == [rows["spam"], rows["eggs"]]
    store._db.execute("UPDATE away SET names = x'c1' WHERE origin = 'spam'")
    assert rows["eggs"] in store.away()
    store.close()


def test_a_write_that_is_refused_half_way_keeps_none_from_writing_later(path: Path) -> None:
    """Where the disk is not full, SQLite rolls nothing back by itself."""
    store = MemberStore.open(path)
    ham = Away("ham", "ham@10.0.0.98:2004", 7.5, True, (), ())
    timeless: Any = None
    with pytest.raises(apsw.ConstraintError):
        store.write({"ham": HAM, "spam": KnownOrigin("spam", b"", "10.0.0.3", timeless)})
    with pytest.raises(apsw.ConstraintError):
        store.write_away({"ham": ham, "spam": Away("spam", "spam@10.0.0.3:1", timeless, True, (), ())}, (), 8.0)
    assert (store.known(), store.away()) == ([], [])
    store.write({"ham": HAM})
    store.write_away({"ham": ham}, (), 8.0)
    assert (store.known(), store.away()) == ([HAM], [ham])
    store.close()
