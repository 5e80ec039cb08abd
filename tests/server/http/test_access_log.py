"""Counters and lines of answers, refusals and dropped connections."""

import logging
import time

import pytest

from co2.errors import BadRequest
from co2.server.http import access_log as module
from co2.server.http.access_log import MAX_KEPT_LINES, AccessLog
from co2.server.http.refused import Refused
from co2.xmlrpc.registry import Caller

CALLER = Caller("10.0.0.7", 4321)
LOGGER = logging.getLogger("test.access_log")


@pytest.fixture(autouse=True)
def levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "co2.server")
    caplog.set_level(logging.INFO, LOGGER.name)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for record in caplog.records for line in getattr(record, "lines", ())]


@pytest.mark.parametrize(
    ("now", "milli"), [(1_700_000_000.0, "000"), (1_700_000_000.25, "250"), (1_700_000_001.9995, "999")]
)
def test_a_line_says_when_who_what_and_how_long(
    now: float, milli: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AccessLog(LOGGER)
    with monkeypatch.context() as patched:
        for moment in (now - 2, now):
            patched.setattr(time, "time", lambda moment=moment: moment)
            log.answered(CALLER, "POST ping", 200, 117, 0.01234)
    log.write_down()
    second = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(now)))
    assert lines(caplog)[1] == f"{second}.{milli} 10.0.0.7 POST ping 200 117 12.3 ms"
    assert caplog.records[0].getMessage() == "2 requests"


def test_lines_are_written_once_and_before_there_are_too_many(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(LOGGER)
    for number in range(MAX_KEPT_LINES):
        assert lines(caplog) == [], number
        log.answered(CALLER, "GET /", 200, 1, 0.0)
    assert len(lines(caplog)) == MAX_KEPT_LINES
    log.write_down()
    assert len(lines(caplog)) == MAX_KEPT_LINES
    assert len(caplog.records) == 1
    assert log.requests == {200: MAX_KEPT_LINES}


def test_without_an_access_log_answers_are_counted_only(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(None)
    for _ in range(2):
        log.answered(CALLER, "GET /", 404, 1, 0.0)
    log.write_down(ending=True)
    assert log.requests == {404: 2}
    assert caplog.records == []


@pytest.mark.parametrize(
    ("refused", "as_json", "status"),
    [
        (Refused(413, "too big"), False, 413),
        (Refused(413, "too big", fault=BadRequest), False, 200),  # a Fault is an answer
        (Refused(413, "too big", fault=BadRequest), True, 413),
    ],
)
def test_a_refusal_counts_as_what_the_sender_gets(
    refused: Refused, as_json: bool, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    log = AccessLog(None)
    refused.as_json = as_json
    log.refused(CALLER, refused)
    log.refused(CALLER, refused)
    assert log.requests == {status: 2}
    assert caplog.records[0].getMessage().startswith("10.0.0.7 port 4321 refused: ")
    assert "too big" in caplog.records[0].getMessage()


def test_a_dropped_connection_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(None)
    log.dropped_one(CALLER, "slow", "x" * 10_000)
    log.dropped_one(CALLER, "slow", "again")
    log.dropped_one(CALLER, "full", "no room")
    assert log.dropped == {"slow": 2, "full": 1}
    assert [record.getMessage()[:29] for record in caplog.records[1:]] == [
        "10.0.0.7 port 4321 dropped: a",
        "10.0.0.7 port 4321 dropped: n",
    ]
    assert len(caplog.records[0].getMessage()) < 1000


@pytest.mark.parametrize(
    ("what", "logger"), [("refused", "co2.server"), ("dropped", "co2.server"), ("answered", LOGGER.name)]
)
def test_how_many_lines_were_left_out_is_told_at_the_end(
    what: str, logger: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BURST", 3)
    monkeypatch.setattr(module, "ACCESS_BURST", 3)
    log = AccessLog(LOGGER)
    for _ in range(50):
        if what == "refused":
            log.refused(CALLER, Refused(400, "no"))
        elif what == "dropped":
            log.dropped_one(CALLER, "slow", "again")
        else:
            log.answered(CALLER, "GET /", 200, 1, 0.0)

    def told() -> list[str]:
        return [record.name for record in caplog.records if "suppressed" in record.getMessage()]

    log.write_down()
    assert told() == [], "it may log again soon"
    log.write_down(ending=True)
    assert told() == [logger]
