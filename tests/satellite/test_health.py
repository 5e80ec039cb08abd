"""What a satellite tells of its packages: in bounds, worst first, and only when it is news."""

import msgspec
import pytest

from co2.plugin.parent.status import PackageStatus
from co2.protocol.wire.link_frames import Applied, decode_satellite_frame, encode_link_frame
from co2.protocol.wire.package_health import MAX_HEALTH, MAX_HEALTH_TEXT, Health, fitting, health_text
from co2.satellite.health import HealthNews, health_of


def test_what_is_told_has_bounds_and_those_in_trouble_come_first() -> None:
    many = [PackageStatus(name=f"p{at}", state="running") for at in range(300)]
    many.append(PackageStatus(name="bad", state="failed", last_error="x" * 5000 + " /home/me/secret.py"))
    found = health_of(many, 0)
    assert len(found) == MAX_HEALTH
    assert (found[0].name, found[0].state) == ("bad", "failed")
    assert len(found[0].error) == 300
    long = [Health(f"p{at}", "failed", error="x" * 300) for at in range(MAX_HEALTH)]
    assert 0 < health_text(fitting(long)) <= MAX_HEALTH_TEXT
    letters = PackageStatus(name="p", state="running", dead_letters=9)
    assert health_of([letters], 2)[0].dead_letters == 2, "those that were repeated or dropped are no trouble"


def test_only_news_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    news = HealthNews()
    row = Health("p", "running", 1, 0.0, 0, False, "E: no", 3.0)
    assert news.is_new([row])
    now[0] += 0.5
    assert not news.is_new([row.later(0.4995)]), "time alone is no news"
    assert news.is_new([Health("p", "running", 1, 0.0, 0, False, "E: no", 0.0)]), "the same error again is"
    assert news.is_new([Health("p", "running", 1, 2.0, 0, False, "E: no", 0.0)])
    assert not news.is_new([Health("p", "running", 1, 3.0, 0, False, "E: no", 0.0)])
    news.forget()
    assert news.is_new([Health("p", "running", 1, 3.0, 0, False, "E: no", 0.0)])
    assert news.is_new([])
    assert not news.is_new([])


class Applied09(msgspec.Struct, tag="Applied", array_like=True):
    """The frame as a relay of before knows it."""

    positions: dict[str, int]


def test_hosts_of_before_and_of_now_understand_each_other() -> None:
    data = encode_link_frame(Applied({"p": 3}, [Health("p", "failed")], "127.0.0.1"))
    assert msgspec.msgpack.decode(data, type=Applied09).positions == {"p": 3}
    old = decode_satellite_frame(msgspec.msgpack.encode(Applied09({"p": 3})))
    assert (old.positions, old.health, old.listens) == ({"p": 3}, None, "")
