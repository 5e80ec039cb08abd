"""``co2 watch``: show the messages of the network as they come."""

import contextlib
import math
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from co2.cli.arguments import Seconds, json_option, url_option
from co2.cli.client import TELL_AFTER, CommandClient
from co2.cli.failures import EXIT_TERMINATED, EXIT_TIMEOUT
from co2.cli.only_relays import only_relays
from co2.cli.output import coloured, one_line, print_json, to_json
from co2.cli.own_name import own_name
from co2.errors import CallTimeout, Co2Error, PeerError, RemoteFault, UnknownHost, Unreachable

__all__ = ["watch"]

WAIT = 20.0
"""Seconds that one fetch waits for messages; below the relay's limit of 25."""

RETRY = 1.0
"""Seconds between two tries to register while the relay is away."""

GRACE = 1.0
"""Seconds that an answer may come after --timeout: a fetch that waits until then is answered a little later."""

MAX_TIME = 253_402_214_399.0
"""Seconds since 1970 of the last time that has a date everywhere: the day before the end of the year 9999."""

MAX_SHOWN = 400
"""Characters of data that are shown; --json shows all."""


@click.command()
@click.option("--once", is_flag=True, help="End after one message; the same as --count 1.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N messages.")
@click.option("--timeout", type=Seconds(), metavar="S", help="End after S seconds.")
@url_option("--relay")
@json_option
def watch(once: bool, count: int | None, timeout: float | None, url: str, as_json: bool) -> int:
    """Show every message on the network as it comes, until Ctrl-C or SIGTERM: time, sender, channel, data.

    The sender is the name of its host, or with --json the host_id; a sender that has no name has its host_id.
    The time is that of its arrival at the relay: a message may have waited at its satellite before, as for a
    relay that was away. The exit code is 5 if the time was over before the wanted messages had come. If
    messages are missing, a line on stderr says so, or with --json a line {"gap": …}: messages that the relay's
    log no longer had when they were fetched, and live messages that came faster than they were fetched, because
    no log has them. Live messages have no position.

    \b
    Examples:
      co2 watch
      co2 watch --once --timeout 3
      co2 watch --json --count 100 | jq .data
    """
    wanted = 1 if once else count
    deadline = None if timeout is None else time.monotonic() + timeout
    seen = 0
    signal.signal(signal.SIGTERM, _terminated)
    with CommandClient(url, WAIT + 5) as client, contextlib.closing(_watcher(client, url, deadline)) as watcher:
        for kind, came in watcher.follow():
            if kind == "gap":
                _show_gap(came, as_json)
                continue
            seen += 1
            if as_json:
                print_json(came)
            else:
                _show(came, watcher.names)
            if wanted is not None and seen >= wanted:
                return 0
    if wanted is None and seen:
        return 0
    assert timeout is not None
    told = f"{seen} of {wanted} messages" if seen else "no message"
    click.echo(f"co2: {told} within {timeout:g} s; co2 ps lists the hosts of the network", err=True)
    return EXIT_TIMEOUT


def _terminated(*_: object) -> NoReturn:
    """End as after Ctrl-C, and unregister. Otherwise the relay would list this client for half a minute."""
    raise SystemExit(EXIT_TERMINATED)


def _watcher(client: CommandClient, url: str, deadline: float | None) -> "_Watcher":
    with only_relays(client, url):
        return _Watcher(client, deadline)


class _Watcher:
    """A client of the relay that only fetches messages; it registers again when the relay was away.

    Args:
        client: of the relay.
        deadline: when to end, in seconds of the monotonic clock; None for never.

    Attributes:
        names: of the senders of the messages that it yields now, by host_id; a relay older than names sends none.
    """

    def __init__(self, client: CommandClient, deadline: float | None) -> None:
        self._client = client
        self._deadline = deadline
        self.names: dict[str, str] = {}
        self._host_id = ""
        self._after = 0
        self._register()

    def follow(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield ("message", …) and ("gap", …) until the deadline."""
        while self._left:
            try:
                answer = self._fetch(min(WAIT, self._left))
            except PeerError as error:
                self._come_back(error)
                continue
            self.names = answer.get("names", {})
            for gap in answer["gaps"]:
                yield "gap", gap
            for message in (*answer["messages"], *answer.get("live", ())):
                yield "message", message
            if missed := answer.get("live_missed"):
                yield "gap", {"live": missed, "reason": "they arrived faster than this command could fetch them"}
            self._after = answer["next"]

    def close(self) -> None:
        """Unregister, unless the relay is away."""
        with contextlib.suppress(Co2Error):
            self._client.call("relay.unregister", {"host_id": self._host_id}, timeout=2)

    def _register(self) -> None:
        known = {"name": own_name("watch"), **({"host_id": self._host_id} if self._host_id else {})}
        answer = self._client.call("relay.register", known, timeout=min(WAIT + 5, max(GRACE, self._left)))
        self._host_id, self._after = answer["host_id"], answer["position"]

    def _fetch(self, wait: float) -> dict[str, Any]:
        wanted = {"max": 200, "wait": wait, "live": True, "names": True}
        arguments = {"host_id": self._host_id, "after": self._after, **wanted}
        found: dict[str, Any] = self._client.call(
            "relay.fetch", arguments, timeout=min(wait + 5, self._left + GRACE), tell_after=wait + TELL_AFTER
        )
        return found

    @property
    def _left(self) -> float:
        """Seconds until the deadline, rounded for the texts of errors; 0 when it is over."""
        return math.inf if self._deadline is None else max(0.0, round(self._deadline - time.monotonic(), 2))

    def _come_back(self, error: PeerError) -> None:
        unknown = isinstance(error, RemoteFault) and error.code == UnknownHost.code
        if not unknown and not isinstance(error, Unreachable | CallTimeout):
            raise error
        if not unknown:
            click.echo(f"co2: {error}; retrying", err=True)
        while self._left:
            try:
                self._register()
            except (Unreachable, CallTimeout):
                time.sleep(min(RETRY, self._left))
            else:
                click.echo("co2: registered again; messages sent in the meantime may be missing", err=True)
                return


def _show(message: dict[str, Any], names: dict[str, str]) -> None:
    data = one_line(to_json(message["data"]))
    if len(data) > MAX_SHOWN:
        data = f"{data[:MAX_SHOWN]}… ({len(data)} characters)"
    host_id = message.get("host_id", "?")
    sender = one_line(names.get(host_id, host_id))
    channel = one_line(message.get("channel", "-"))
    clock = _clock(message.get("at"))
    sys.stdout.write(f"{coloured(clock, 'dim')} {coloured(sender, 'cyan')} {coloured(channel, 'bold')} {data}\n")
    sys.stdout.flush()


def _clock(at: Any) -> str:
    """Return the time of day with milliseconds; of now, if the relay is older and tells none."""
    seconds = at if isinstance(at, float) and 0 <= at <= MAX_TIME else time.time()
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{int(seconds * 1000) % 1000:03}"


def _show_gap(gap: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json({"gap": gap})
    else:
        if "live" in gap:
            click.echo(f"gap: {gap['live']} live messages are missing ({one_line(gap['reason'])})", err=True)
            return
        from co2.protocol.wire.gap_reasons import gap_words  # imported here, because gaps are rare

        text = gap_words(int(gap["after"]), int(gap["next"]), str(gap.get("reason", "the relay gave no reason")))
        click.echo(f"gap: {one_line(text)}", err=True)
