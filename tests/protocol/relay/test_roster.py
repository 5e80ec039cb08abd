"""The roster: told in parts, a bounded amount at a time, right for every link in the end."""

import random

import pytest

from co2.protocol.relay import roster
from co2.protocol.relay.cursors import Peer
from co2.protocol.relay.roster import FRAME_COST, RosterBook
from co2.protocol.wire.link_frames import MAX_LINK_FRAME, Roster, decode_relay_frame

PLENTY = 1 << 30


class Core:
    """As much of the relay's core as a peer needs."""

    def __init__(self) -> None:
        self.ready: dict[Peer, None] = {}


class Net:
    """Links with what each has learnt."""

    def __init__(self) -> None:
        self.core = Core()
        self.peers: dict[str, Peer] = {}
        self.book = RosterBook(self.peers)
        self.known: dict[str, dict[str, list[str]]] = {}
        self.frames = 0

    def come(self, name: str, methods: int = 1) -> Peer:
        peer = self.peers[name] = Peer(self.core, ("127.0.0.1", 1), state="open")  # type: ignore[arg-type]
        self.known[name] = {}
        self.tells(name, methods)
        return peer

    def tells(self, name: str, methods: int) -> None:
        self.book.put(name, f"{name}@127.0.0.1:1", [f"{name}.m{i}" for i in range(methods)], [])

    def go(self, name: str) -> None:
        self.peers.pop(name).state = "closed"
        del self.known[name]
        self.book.remove(name)

    def read(self) -> None:
        """Have every link learn what it was told."""
        for name, peer in self.peers.items():
            for data in peer.taken():
                frame = decode_relay_frame(data)
                assert isinstance(frame, Roster)
                assert len(data) < MAX_LINK_FRAME
                self.frames += 1
                if frame.begins:
                    self.known[name].clear()
                self.known[name] |= {host_id: methods for host_id, methods, _ in frame.rows}
                for gone in frame.gone:
                    self.known[name].pop(f"{gone}@127.0.0.1:1", None)

    def settle(self, max_bytes: int = PLENTY) -> int:
        """Tell until all are told; give how many rounds that took."""
        rounds = 1
        while self.book.tell(max_bytes):
            self.read()
            rounds += 1
        self.read()
        return rounds

    def all_know(self, **methods: int) -> bool:
        all_ = {f"{name}@127.0.0.1:1": [f"{name}.m{i}" for i in range(count)] for name, count in methods.items()}
        return all(known == all_ for known in self.known.values())


def test_everybody_learns_of_everybody() -> None:
    net = Net()
    for name in "abc":
        net.come(name)
    assert net.settle() == 1
    assert net.all_know(a=1, b=1, c=1)


def test_only_news_is_told() -> None:
    net = Net()
    for i in range(100):
        net.come(f"s{i}")
    net.settle()
    net.come("new")
    net.book.tell(PLENTY)
    (data,) = net.peers["s0"].taken()
    frame = decode_relay_frame(data)
    assert [row[0] for row in frame.rows] == ["new@127.0.0.1:1"]
    assert not frame.begins


def test_who_left_and_who_changed() -> None:
    net = Net()
    for name in "abc":
        net.come(name)
    net.settle()
    net.go("b")
    net.tells("c", 3)
    net.settle()
    assert net.all_know(a=1, c=3)


def test_a_bounded_amount_at_a_time() -> None:
    net = Net()
    for i in range(10):
        net.come(f"s{i}")
    assert net.settle(3 * FRAME_COST) == 4
    assert net.all_know(**{f"s{i}": 1 for i in range(10)})


def test_a_large_roster_comes_in_parts() -> None:
    net = Net()
    for i in range(20):
        net.come(f"s{i}", methods=1000)
    net.settle()
    assert net.frames > 2 * 20
    assert net.all_know(**{f"s{i}": 1000 for i in range(20)})


def test_who_has_no_room_is_told_later() -> None:
    net = Net()
    slow = net.come("slow")
    net.come("quick")
    slow.paused = True
    assert net.book.tell(PLENTY)
    net.read()
    assert not net.known["slow"]
    assert len(net.known["quick"]) == 2
    slow.paused = False
    net.settle()
    assert net.all_know(slow=1, quick=1)


def test_a_row_that_is_too_large_is_told_without_methods() -> None:
    net = Net()
    net.come("a")
    assert not net.book.put("b", "b@127.0.0.1:1", ["m" * 1000] * 100, [])
    net.settle()
    assert net.known["a"]["b@127.0.0.1:1"] == []


def test_many_who_left_make_all_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "MAX_GONE", 5)
    net = Net()
    for i in range(20):
        net.come(f"s{i}")
    net.settle()
    for i in range(12):
        net.go(f"s{i}")
    net.settle()
    assert net.all_know(**{f"s{i}": 1 for i in range(12, 20)})


@pytest.mark.parametrize("seed", range(30))
def test_chance(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "MAX_GONE", 4)
    monkeypatch.setattr(roster, "PART", 60)
    dice = random.Random(seed)
    net = Net()
    there: dict[str, int] = {}
    for _ in range(400):
        name = f"s{dice.randrange(12)}"
        match dice.randrange(5):
            case 0 | 1 if name not in there:
                there[name] = dice.randrange(4)
                net.come(name, there[name])
            case 0 if name in there:
                there[name] = dice.randrange(4)
                net.tells(name, there[name])
            case 2 if name in there:
                del there[name]
                net.go(name)
            case 3 if name in there:
                net.peers[name].paused = dice.random() < 0.5
            case 4:
                net.book.tell(dice.randrange(6) * FRAME_COST)
                net.read()
    for peer in net.peers.values():
        peer.paused = False
    net.settle(2 * FRAME_COST)
    assert net.all_know(**there)


def test_who_was_never_there_leaves_nothing() -> None:
    net = Net()
    net.come("ham")
    net.settle()
    frames = net.frames
    net.book.remove("nobody")
    net.settle()
    assert net.frames == frames
    assert list(net.known["ham"]) == ["ham@127.0.0.1:1"]


def test_many_changes_of_one_are_told_as_it_is_now_and_leave_little_behind() -> None:
    net = Net()
    for name in "abc":
        net.come(name)
    net.settle()
    for count in range(1500):
        net.tells("b", count % 7)
    net.tells("a", 3)
    net.come("d")
    net.settle()
    assert net.all_know(a=3, b=1499 % 7, c=1, d=1)
    net.go("c")
    net.settle()
    assert net.all_know(a=3, b=1499 % 7, d=1)
    assert len(net.book._order) < 1500
