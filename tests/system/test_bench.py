"""The benchmark's own parts run and give plausible figures; how good they are is not asked here."""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench import __main__ as bench
from bench import (
    busy,
    chain,
    connections,
    earlier,
    floor,
    link,
    memory,
    peers,
    references,
    roles,
    roundtrip,
    runs,
    start,
    stream,
    transit,
)
from bench.footprint import children, cpu_seconds
from bench.goals import Judged, lines
from bench.peers.base import Peer, Role, Throughput
from bench.peers.brokers import wait_for
from bench.peers.co2 import PEER, Variant
from bench.peers.trips import Pinger, answer
from bench.transit import complete

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it reads what processes take from /proc"),
    pytest.mark.xdist_group("bench"),
]


def test_many_satellites() -> None:
    result = connections.measure([12], 0.2, 1)
    assert not result["failed"]
    row = result["rows"]["12"]
    assert row["frames/s"] > 10
    assert 0.01 < row["µs each"] < 10_000
    assert 0 < row["joined"] < connections.CONNECT_TIMEOUT
    assert "| 12 |" in "\n".join(connections.section(result))
    assert "<svg" in connections.pictures(result)["connections.svg"]


def test_the_cost_of_a_delivery_is_compared_within_a_round() -> None:
    def measured(cost: float) -> dict[str, float]:
        return {"joined": 1.0, "KiB each": 20.0, "frames/s": 9e4, "µs each": cost, "µs each, alone": cost}

    found = {10: {0: measured(2.0), 1: measured(4.0)}, 1_000: {1: measured(6.0)}}
    told = [Judged(**row) for row in connections.judged(found, 10_000)]
    assert [(one.value, one.verdict) for one in told] == [
        (1_000, "FLOOR NOT HELD"),
        (1.0, "reached"),
        (20.0, "reached"),
        (9e4, "reached"),
        (1.5, "reached"),
        (1.5, "reached"),
    ]


def test_a_stopped_receiver() -> None:
    result = memory.measure(0.5, 1, receivers=4)
    for row in result["rows"].values():
        assert 20 < row["MiB"] < 2000
        assert row["frames/s"] > 10
        assert row["p99"] > 10
    assert "one is stopped" in "\n".join(memory.section(result))


def test_a_reader_of_the_log() -> None:
    result = stream.measure(0.5, 1, messages=20_000)
    without, reading, beside = (result["rows"][case] for case in stream.CASES)
    for row in (without, reading, beside):
        assert 10 < row["p50"] <= row["p99"]
    assert reading["read"] > 1_000
    assert without["read"] == beside["read"] == 0
    assert len(result["goals"]) == 2
    assert "| somebody reads it |" in "\n".join(stream.section(result))
    assert not stream.pictures(result)
    assert stream.verdict(result)  # there is a goal, and no floor


def test_start() -> None:
    rows = start.once()
    for role in ("relay", "satellite"):
        assert 0.05 < rows[f"{role}, s"] < 30
        assert 20 < rows[f"{role}, MB"] < 500
    assert 5 < rows["plugin host, MB"] < rows["satellite, MB"]
    assert len(list(start.judged(rows))) == 5


def test_from_plugin_to_plugin() -> None:
    found = PEER.throughput(1, 1, 0.2)
    assert found.missing == 0
    assert found.rate > 100
    assert list(found.cost) == list(Role)
    assert all(nanoseconds >= 0 for nanoseconds in found.cost.values())
    assert sum(found.cost.values()) > 10


@pytest.mark.parametrize("name", ["with times", "with last values"])
def test_variants_of_co2_measure_too(name: str) -> None:
    variant = earlier.variants(sys.executable)[name]
    found = complete(name, variant.throughput(1, 1, 0.1))
    assert found.rate > 100


def test_another_python_runs_the_earlier_version(tmp_path: Path) -> None:
    missing = Variant("earlier", interpreter=str(tmp_path / "python"))
    with pytest.raises(FileNotFoundError, match="python"):
        missing.throughput(1, 1, 0.1)
    assert earlier.variants("their python")[earlier.EARLIER].interpreter == "their python"


def test_now_and_earlier_are_compared_round_by_round() -> None:
    before = [{"1 → 1": 100.0, "1 → 4": 100.0, "p50": 10.0, "p99": 90.0, "trip": 10.0}] * 2 + [
        {"1 → 1": 9.0, "1 → 4": 100.0, "p50": 10.0, "p99": 1.0, "trip": 20.0}
    ]
    now = [{"1 → 1": 99.0, "1 → 4": 90.0, "p50": 10.5, "p99": 99.9, "trip": 10.2}] * 2 + [
        {"1 → 1": 100.0, "1 → 4": 95.0, "p50": 10.5, "p99": 1.0, "trip": 20.0}
    ]
    told = [
        (round(one.value, 3), one.verdict)
        for one in (Judged(**row) for row in earlier.judged({earlier.EARLIER: before, earlier.NOW: now}))
    ]
    assert told == [
        *((0.99, "reached"), (0.9, "FLOOR NOT HELD"), (1.05, "held"), (1.11, "not reached"), (1.02, "reached"))
    ]


@pytest.mark.parametrize("commit", ["", "nowhere"])
def test_without_an_earlier_version_it_says_so(commit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(earlier.COMMIT, commit)
    with pytest.raises(RuntimeError, match="no earlier version in"):
        earlier.measure()


@pytest.mark.parametrize("load", busy.LOADS)
def test_a_bare_chain(load: str) -> None:
    found = chain.measure(0.3, 500, load)
    assert found.missing == 0
    assert 1 < found.p50 <= found.p99


def test_a_busy_core_computes_until_the_end_of_the_block() -> None:
    before = set(children(os.getpid()))
    with busy.busy_core():
        (pid,) = set(children(os.getpid())) - before
        begun = cpu_seconds(pid)
        wait_for(lambda: cpu_seconds(pid) > begun, "a process that computes")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_round_trips() -> None:
    with PEER.pair() as asks:
        for pause in (0, 0.001):
            times = asks.trips(12, pause)
            assert len(times) == 12
            assert min(times) > 10
    with chain.pair() as bare:
        assert len(bare.trips(12, 0)) == 12


def test_only_the_answer_to_what_was_asked_last_ends_a_trip() -> None:
    late: list[dict[str, Any]] = []

    def send(message: dict[str, Any]) -> None:
        """Answer at once, each but the first with the answer before it too."""
        for one in (*late[-1:], message):
            assert pinger.take(answer(one)) is None
        late.append(message)

    pinger = Pinger(send)
    pinger.meet()
    assert len(pinger.run(3, 1e-6)) == 3
    with pytest.raises(TimeoutError, match="no answer"):
        Pinger(lambda message: None).meet(patience=0.01)


def test_round_trips_are_judged_round_by_round_for_each_pause_and_load() -> None:
    quiet = {"co2": [[300.0], [100.0], []], "pyzmq": [[100.0], [80.0], [10.0]], "nats": [[1.0], [1.0], [1.0]]}
    beside = {"co2": [[190.0], [210.0], [190.0]], "pyzmq": [[100.0], [100.0], [100.0]]}
    told = [Judged(**row) for row in roundtrip.judged({"quiet": {"none": quiet}, "busy": {"1 ms": beside}})]
    assert [(one.value, one.goal, one.floor, one.verdict) for one in told] == [
        (2.125, 1.0, 1.25, "FLOOR NOT HELD"),
        (1.9, 1.25, 2.0, "held"),
    ]
    assert roundtrip.row([[1.0, 3.0], [], [4.0]])["p50"] == 3.0
    assert roundtrip.row([[], []]) == {"p50": None, "p99": None}


def test_goals_are_judged_round_by_round() -> None:
    found: link.Rounds = {figure: {} for figure in link.TITLES}
    found["1 → 1"] = {"co2": [300.0, 100.0, 900.0], "pyzmq": [100.0, 50.0, 300.0], "nats": [10.0, 10.0, 450.0]}
    (judged,) = link.judged(found)
    assert (judged["value"], judged["goal"], judged["floor"]) == (2.0, 3.0, 2.0)
    assert Judged(**link.row(judged)).verdict == "held"
    found["busy p99"] = {"co2": [300.0, 100.0], "pyzmq": [100.0, 50.0]}
    assert [row["value"] for row in link.judged(found)] == [2.0, 2.5]
    assert "FLOOR NOT HELD" in lines([Judged("p99", 2.0, 1.25, 1.25, at_most=True).row()])[2]


def test_what_a_floor_compares_with_and_is_missing_is_no_pass(capsys: pytest.CaptureFixture[str]) -> None:
    found: link.Rounds = {figure: {"co2": [1.0], "nats": [9.0], "pyzmq": [2.0]} for figure in link.TITLES}
    for shape in link.SHAPES:
        found[shape]["co2"] = [90.0]
    found["acked"] = {"co2": [90.0], "redis-streams": [9.0], "jetstream": [9.0]}
    assert not list(link.unmeasured(found, peers.NAMES))
    # Its library is not there; another one ran and brought nothing.
    for by_peer in found.values():
        by_peer.pop("pyzmq", None)
    found["acked"]["jetstream"] = [float("nan")]
    left = list(link.unmeasured(found, peers.NAMES))
    assert left == [
        "p50, µs, beside pyzmq",
        "p99, µs, beside pyzmq",
        "beside a busy core: p50, µs, beside pyzmq",
        "beside a busy core: p99, µs, beside pyzmq",
        "acknowledged/s, beside jetstream",
    ]
    goals = list(link.judged(found))
    assert goals
    assert not link.verdict({"goals": goals, "failed": {"pyzmq": "no module"}, "unmeasured": left})
    assert "beside a busy core: p99, µs, beside pyzmq: NOT MEASURED" in capsys.readouterr().out
    assert link.verdict({"goals": goals, "failed": {}, "unmeasured": []})
    # Whoever leaves a peer out asks nothing of it.
    assert not list(link.unmeasured(found, ["co2", "nats"]))
    assert not list(link.unmeasured(found, ["pyzmq", "nats"]))


class Measured(Peer):
    """A peer of which the figures are known already; it loses the messages that it is said to."""

    title = "measured"

    def __init__(self, costs: dict[Role, float], missing: int = 0) -> None:
        self._found = Throughput(1e6, missing, costs)

    def fleet(self, senders: int, receivers: int, stamped: bool) -> Any:
        raise NotImplementedError

    def throughput(self, senders: int, receivers: int, seconds: float) -> Throughput:
        return self._found


def test_what_a_message_takes_of_the_processors_stands_beside_others_and_the_floor_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = dict.fromkeys(Role, 100.0)
    measured = {
        "co2": Measured(ours),
        "pyzmq": Measured({Role.SENDER: 700.0, Role.BROKER: 1.0, Role.RECEIVER: 9.0}),
    }
    beside = {
        "pyzmq-framed": Measured({Role.SENDER: 200.0, Role.BROKER: 90.0, Role.RECEIVER: 100.0}),
        "pyzmq-direct": Measured({Role.SENDER: 600.0, Role.RECEIVER: 9.0}, missing=1),
        "pynng": Measured({Role.SENDER: 1.0, Role.RECEIVER: 2.0}),
    }
    monkeypatch.setattr(peers, "make", measured.__getitem__)
    monkeypatch.setattr(references, "make", lambda name: beside[name] if name in beside else missing())
    monkeypatch.setattr(floor, "costs", lambda: {Role.SENDER: 150.0, Role.BROKER: 0.0, Role.RECEIVER: 250.0})
    result = roles.measure(["co2", "pyzmq", "nats"], rounds=2)
    assert roles.verdict(result)
    assert [row["value"] for row in result["goals"]] == [500 / 400]
    page = "\n".join(roles.section(json.loads(json.dumps(result))))
    assert "| its satellite | 100 |  |  |" in page
    assert "| all | 500 | 710 | 400 |" in page
    assert "| beside the floor program | 1.25 × | 1.77 × | |" in page
    assert "<svg" in roles.pictures(result)["roles.svg"]
    # A reference is beside them and takes no part: its messages may be lost, its library may be missing.
    assert "| measured | yes | yes | yes | 1,000,000 | 100 | 300 | 100 | 500 |" in page
    assert "| reference: measured | yes |  |  | 1,000,000 | 200 | 90 | 100 | 390 |" in page
    assert "| reference: measured |  |  |  | 1,000,000 | 1 |  | 2 | 3 |" in page
    assert (
        "a hub alone costs 90 ns" in page
        and "210 ns are what isolation and durability cost" in page
        and "at most 100 ns" in page
    )
    assert "pyzmq-direct was not measured everywhere: 1 messages are missing." in page
    assert "iceoryx2 was not measured everywhere: no such library." in page


def missing() -> Peer:
    """Stand for a library that is not here."""
    raise ImportError("no such library")


def test_figures_from_before_there_were_references_have_no_table_of_them() -> None:
    rows = {"co2": dict.fromkeys(Role, 1.0), roles.FLOOR: {Role.SENDER: 1.0}}
    before = {"seconds": 2.0, "rounds": 3, "titles": {"co2": "co2"}, "rates": {"co2": 1.0}, "rows": rows}
    assert "###" not in "\n".join(roles.section({**before, "failed": {}, "goals": [], "unmeasured": []}))


def test_a_role_that_could_not_be_measured_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(name: str) -> Peer:
        if name == "zenoh":
            raise ImportError("no module named zenoh")
        return Measured({Role.SENDER: 1.0}, missing=3 if name == "pyzmq" else 0)

    monkeypatch.setattr(peers, "make", make)
    monkeypatch.setattr(references, "make", lambda name: missing())
    monkeypatch.setattr(floor, "costs", lambda: {Role.SENDER: 1.0})
    result = roles.measure(rounds=1)
    assert result["unmeasured"] == ["processor time by role, pyzmq", "processor time by role, zenoh"]
    assert not roles.verdict(result)
    page = "\n".join(roles.section(result))
    assert "pyzmq was not measured everywhere: 3 messages are missing." in page and "no module named zenoh" in page


def test_the_floor_program_by_role() -> None:
    costs = floor.costs(0.05)
    assert list(costs) == [Role.SENDER, Role.BROKER, Role.RECEIVER]
    assert 0 < costs[Role.BROKER] < costs[Role.SENDER] < 1e6


def passed_on(**cases: list[float]) -> dict[str, list[dict[str, float]]]:
    """Return rounds in which each case had this p50."""
    names = {"none": transit.NONE, "looks": transit.LOOKS, "changes": transit.CHANGES}
    names |= {"one": transit.ONE_PROXY, "two": transit.TWO_PROXIES, "filter": transit.FILTER}
    return {
        names[case]: [{"p50": p50, "p99": 2 * p50, "rate": 1e6} for p50 in all_] for case, all_ in cases.items()
    }


def test_what_a_relay_plugin_adds_is_compared_with_what_a_filter_process_adds() -> None:
    found = passed_on(
        none=[100.0, 200.0, 100.0], looks=[280.0, 360.0, 400.0], changes=[300.0, 400.0, 300.0],
        one=[100.0, 100.0, 100.0], two=[150.0, 150.0, 150.0], filter=[220.0, 90.0, 250.0],
    )  # fmt: skip
    assert list(transit.added(found).values()) == [180.0, 200.0, 120.0, 70.0]
    row, other = transit.judged(found)
    assert (row["value"], Judged(**row).verdict) == (1.5, "held")
    assert (other["value"], Judged(**other).verdict) == (180 / 70, "not reached")
    assert not list(transit.unmeasured(found))
    rows = {case: all_[0] for case, all_ in found.items()}
    old = {"rows": {case: rows[case] for case in transit.CASES}, "seconds": 2.0, "rounds": 3, "goals": []}
    result = {**old, "beside": {"a proxy": rows["a proxy"]}, "added": transit.added(found), "goals": [row]}
    page = "\n".join(transit.section(result))
    assert "| a relay plugin that looks | 180 µs |" in page and "pyzmq" not in "\n".join(transit.section(old))
    assert transit.verdict(result)
    assert not transit.verdict({**result, "goals": [{**row, "value": 1.6}]})


def test_a_filter_process_that_seems_to_add_nothing_is_no_measure() -> None:
    found = passed_on(none=[1.0], looks=[2.0], changes=[2.0], one=[5.0], two=[5.0], filter=[4.0])
    assert not list(transit.judged(found))
    assert not transit.verdict({"goals": [], "unmeasured": list(transit.unmeasured(found))})


def test_relay_plugins_are_not_measured_without_pyzmq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bench.peers.pyzmq", None)
    monkeypatch.delattr("bench.peers.pyzmq", raising=False)
    with pytest.raises(ImportError):
        transit.measure()


def test_round_trips_without_whom_they_are_compared_with_are_no_pass() -> None:
    times: roundtrip.Times = {
        "quiet": {"none": {"co2": [[1.0]], "pyzmq": [[1.0]]}, "1 ms": {"co2": [[1.0]], "pyzmq": [[]]}},
        "busy": {"none": {"co2": [[1.0]]}},
    }
    left = list(roundtrip.unmeasured(times, roundtrip.NAMES))
    assert left == ["p50, pause 1 ms, beside pyzmq", "p50, pause none, beside a busy core, beside pyzmq"]
    result = {"goals": list(roundtrip.judged(times)), "failed": {}}
    assert roundtrip.verdict({**result, "unmeasured": []})
    assert not roundtrip.verdict({**result, "unmeasured": left})
    assert not list(roundtrip.unmeasured(times, ["co2", "nats"]))


def test_a_run_whose_peer_is_missing_ends_with_1_and_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the program but what it measures: those are the figures that are kept, without that peer's."""
    kept = runs.combined(runs.kept_of(bench.results_in(bench.DOCS)))
    shown = {**kept["link"], "unmeasured": [bench.CLAIMED]}
    shown["goals"] = [one for one in shown["goals"] if "pyzmq" not in one["what"]]
    monkeypatch.setattr(bench, "PARTS", {"link": replace(bench.PARTS["link"], measure=lambda **_: shown)})
    readme = bench.README.read_text()
    (tmp_path / "README.md").write_text(readme)
    for name, place in {"ROOT": tmp_path, "DOCS": tmp_path / "reports", "README": tmp_path / "README.md"}.items():
        monkeypatch.setattr(bench, name, place)
    monkeypatch.setattr(sys, "argv", ["bench"])
    assert bench.main() == 1
    written = json.loads((tmp_path / "reports" / "bench" / "results.json").read_text())
    assert [run["whole"] for run in written["runs"]] == [False]
    assert (tmp_path / "README.md").read_text() == readme


def row(value: float) -> dict[str, Any]:
    return Judged("p50, µs, beside pyzmq", value, 1.25, 2.0, True, "×").row()


def test_the_last_three_whole_runs_are_kept_and_the_page_has_their_medians() -> None:
    kept = runs.kept_of(
        {"machine": {"processors": 1}, "apart": ["link"], "link": {"limit": 99.0, "goals": [row(9.0)]}}
    )
    assert runs.combined(kept)["link"]["limit"] == 99.0
    for limit, lost, ratio in ((1.0, None, 5.0), (4.0, 2, 1.5), (2.0, 3, 1.0), (3.0, 8, 3.0)):
        run = runs.begin(kept, {"processors": 2})
        run["link"] = {"limit": limit, "lost": lost, "rounds": 3, "title": "co2", "goals": [row(ratio)]}
        run["whole"] = True
    broken_off = runs.begin(kept, {"processors": 2})
    assert [one["link"]["limit"] for one in kept["runs"][:-1]] == [2.0, 3.0]
    kept["runs"] = [
        {"date": "x", "whole": True, "machine": {}, "link": {**kept["runs"][0]["link"], "limit": 4.0}},
        *kept["runs"][:-1],
    ]
    found = runs.combined(kept)
    assert found["link"]["limit"] == 3.0 and found["link"]["rounds"] == 3 and found["link"]["title"] == "co2"
    assert (found["link"]["goals"][0]["low"], found["link"]["goals"][0]["high"]) == (1.0, 3.0)
    assert "**1** × (1 to 3)" in lines(found["link"]["goals"])[2]
    runs.measured_apart(kept, "link", {"limit": 7.0}, {"processors": 4})
    found = runs.combined(kept)
    assert (found["link"], found["apart"], found["machine"]) == ({"limit": 7.0}, ["link"], {"processors": 4})
    runs.begin(kept, {"processors": 2}, anew=True)
    assert len(kept["runs"]) == 1 and not kept["apart"] and kept["runs"][0] is not broken_off


def test_the_first_page_says_what_was_measured() -> None:
    kept = runs.combined(runs.kept_of(bench.results_in(bench.DOCS)))
    readme = bench.README.read_text()
    assert bench.claim(kept) in readme and bench.with_claim(readme, kept) == readme
    for ratio, words in ((1.375, "1.4 times"), (1.125, "about"), (0.9, "about"), (0.75, "0.75 times")):
        kept["link"]["goals"] = [row(ratio), {**row(2.5), "what": "beside a busy core: p50, µs, beside pyzmq"}]
        assert bench.claim(kept).startswith(f"A single message takes {words} as long as through that proxy (")


def test_the_page_can_be_written_from_the_figures_that_are_kept() -> None:
    kept = json.loads((bench.DOCS / "bench" / "results.json").read_text())
    assert bench.page(kept).strip() == (bench.DOCS / "bench.md").read_text().strip()


def test_a_first_part_that_fails_is_named_and_nothing_else_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = bench.ROOT / "bench" / "results" / tmp_path.name
    monkeypatch.setattr(bench, "ELSEWHERE", place)
    monkeypatch.setattr(sys, "argv", ["bench", "earlier", "--rounds", "1"])
    monkeypatch.delenv(earlier.COMMIT, raising=False)
    try:
        assert bench.main() == 1
    finally:
        shutil.rmtree(place, ignore_errors=True)
    assert "NOT MEASURED: earlier: no earlier version in" in capsys.readouterr().out
