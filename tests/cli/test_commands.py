"""The commands against a real relay and a real satellite, as people and programs use them."""

import json
import re
import signal
import time
from collections.abc import Iterator

import pytest

from co2 import __version__
from co2.cli.failures import exit_code
from co2.cli.main import COMMANDS, main
from co2.cli.show import _link
from co2.errors import NothingListens
from tests.cli.network import NASTY, Network, at_terminal, co2, watch, watching
from tests.harness import RECORDER, running, wait_for, write_plugin

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f]")
COLOUR = re.compile("\x1b\\[[0-9;]*m")

pytestmark = pytest.mark.xdist_group("commands")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    base = tmp_path_factory.mktemp("commands")
    write_plugin(base / "satellite", "recorder", rec=RECORDER)
    write_plugin(base / "satellite", "nasty", nasty=NASTY)
    with (
        running(base / "relay", "relay", "--name", "house") as relay,
        running(base / "satellite", "satellite", "--relay", relay.url, "--name", "stage-pi") as satellite,
    ):
        with relay.proxy() as proxy:
            wait_for(lambda: any(row["methods"] for row in proxy.relay.get_satellites()), "the satellite is there")
        yield Network(relay, satellite, base)


def received(net: Network) -> str:
    path = net.folder / "satellite" / "received.jsonl"
    return path.read_text() if path.exists() else ""


def test_nobody_else_reads_what_is_in_a_state_folder(net: Network) -> None:
    files = [path for path in net.folder.rglob("state/**/*") if path.is_file()]
    assert {path.name for path in files} >= {"origin", "lock", "co2.log", "debug.log", "access.log"}
    assert any(path.name.endswith("-wal") for path in files)
    assert [path for path in files if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_what_a_command_reads_and_writes_is_utf_8_whatever_a_pipe_has(net: Network, encoding: str) -> None:
    """A pipe on Windows has cp1252, which knows no arrow."""
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for args in (["ps"], ["methods"], ["--help"], ["plugin", "--help"], ["watch", "--help"]):
        done = co2(net, *args, **env)
        assert (done.returncode, done.stderr) == (0, ""), args
    done = co2(net, "send", '{"data": "kitchen → ü"}', **env)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: "kitchen \\u2192 \\u00fc" in received(net), "the plugin has it")
    done = co2(net, "call", "recorder.rec.→", **env)
    assert done.returncode != 0 and "→" in done.stderr


# ---- send ----------------------------------------------------------------------------------------------


def test_send_reaches_a_plugin_and_tells_the_position(net: Network) -> None:
    done = co2(net, "send", '{"data": {"sent": "once"}, "channel": "a.b"}')
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"sent, position \d+\n", done.stdout)
    wait_for(lambda: '"sent": "once"' in received(net), "the plugin has it")
    assert received(net).count('"sent": "once"') == 1


def test_send_in_json(net: Network) -> None:
    first, second = (json.loads(co2(net, "send", '{"data": null}', "--json").stdout) for _ in range(2))
    assert second["position"] == first["position"] + 1
    assert first["host_id"].endswith(":0")


def test_send_reads_lines(net: Network) -> None:
    done = co2(net, "send", "-", stdin='{"data": "line 1"}\n\n{"data": "line 2"}\n')
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    wait_for(lambda: '"line 2"' in received(net))
    assert received(net).index('"line 1"') < received(net).index('"line 2"')
    assert co2(net, "send", "-", stdin="").returncode == 0


def test_why_shows_what_made_a_message_happen_and_moves_no_cursor(net: Network) -> None:
    def sent(message: dict[str, object]) -> int:
        found: int = json.loads(co2(net, "send", json.dumps(message), "--json").stdout)["position"]
        return found

    first = sent({"channel": "\x1b[2J", "data": "\x9b31m\n"})
    second = sent({"channel": "why.test", "data": "x" * 500, "cause": first})
    third = sent({"channel": "why.test", "data": "x" * 9000, "cause": second})
    done = co2(net, "why", "--last", "why.test")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert re.fullmatch(rf"{third}  [\d:.]{{12}}  why\.test \(90\d\d bytes\)  from [\w@.:-]+", lines[0])
    assert lines[1].startswith(f"because {second} ")
    assert "xxx…  from " in lines[1]
    assert len(lines[1]) < 250
    assert lines[2].startswith(f"because {first} ")
    assert lines[3:] == ["which has no cause"]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout)
    later = sent({"data": 1, "cause": 2**62})
    assert co2(net, "why", str(later)).stdout.splitlines()[1] == (
        f"and no further: message {later} says that {2**62} made it happen, which is not before it: a position in "
        "an earlier log, or made up"
    )
    assert co2(net, "why", str(first)).stdout.splitlines()[1:] == ["it has no cause"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "POSITION, or --last CHANNEL"),
        (("7", "--last", "a"), "POSITION, or --last CHANNEL"),
        (("one",), "not a valid integer"),
        (("1",), "1 is not in the range"),
        (("--last", ">"), "channels; co2 last shows them"),
    ],
)
def test_why_asks_for_one_message(net: Network, args: tuple[str, ...], says: str) -> None:
    for channel in ("why.one", "why.two"):
        assert co2(net, "send", json.dumps({"channel": channel, "data": 1})).returncode == 0
    done = co2(net, "why", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_who_has_sent_does_not_stay_in_the_list(net: Network) -> None:
    co2(net, "send", '{"data": 1}')
    with net.relay.proxy() as proxy:
        assert [row["host_id"] for row in proxy.relay.get_satellites()] == [net.satellite.host_id]


# ---- watch ---------------------------------------------------------------------------------------------


def test_watch_once(net: Network) -> None:
    code, out = watch(net, "--once")
    assert code == 0
    (line,) = out.splitlines()
    assert re.fullmatch(r'\d\d:\d\d:\d\d\.\d{3} host-[a-z0-9-]+ stage \[1, "shrubbery"\]', line)


def test_watch_counts(net: Network) -> None:
    code, out = watch(net, "--count", "3", "--json")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["data"], row["channel"]) for row in rows] == [([1, "shrubbery"], "stage")] * 3


def test_watch_gives_up_in_time(net: Network) -> None:
    started = time.monotonic()
    done = co2(net, "watch", "--once", "--timeout", "0.2")
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == "co2: no message within 0.2 s; co2 ps lists the hosts of the network\n"
    assert time.monotonic() - started < 5
    assert co2(net, "watch", "--timeout", "0.1").returncode == 5


def test_watch_says_how_many_of_those_that_it_waited_for_came(net: Network) -> None:
    code, out = watch(net, "--count", "1000000", "--timeout", "1")
    assert code == 5
    assert re.search(
        r"\nco2: [1-9]\d* of 1000000 messages within 1 s; co2 ps lists the hosts of the network\n\Z", out
    )
    code, out = watch(net, "--timeout", "1")
    assert (code, "co2: " in out) == (0, False)


def test_watch_shows_control_characters_as_text(net: Network) -> None:
    for data in ("\x9b31m\x7f\n\x85", "\x1b[2J\x07"):
        nasty = json.dumps({"data": data, "from": "\x1b]0;x\x07\x9b"})
        for args in (["--once"], ["--once", "--json"]):
            code, out = watch(net, *args, message=nasty)
            assert code == 0
            assert not CONTROL.search(out)
            assert len(out.splitlines()) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_watch_that_is_ended_leaves_the_list_at_once(net: Network, number: int, code: int) -> None:
    def kinds() -> list[str]:
        return [row["kind"] for row in json.loads(co2(net, "ps", "--json").stdout)["satellites"]]

    with watching(net) as process:
        wait_for(lambda: "watcher" in kinds(), "the watcher is listed")
        process.send_signal(number)
        assert process.wait(10) == code
        assert kinds() == ["co2"]


# ---- call ----------------------------------------------------------------------------------------------


def test_call_finds_the_one_that_has_it(net: Network) -> None:
    done = co2(net, "call", "recorder.rec.send", '{"data": {"data": "called"}}')
    assert (done.returncode, done.stdout, done.stderr) == (0, "true\n", "")
    done = co2(net, "call", "co2.get_properties")
    assert json.loads(done.stdout)["role"] == "relay"


def test_call_on_a_host(net: Network) -> None:
    done = co2(net, "call", "co2.get_properties", "--host", net.satellite.host_id)
    assert (done.returncode, json.loads(done.stdout)["role"]) == (0, "satellite")
    done = co2(net, "call", "co2.get_properties", "--url", net.satellite.url, "--json")
    assert json.loads(done.stdout)["host_id"] == net.satellite.host_id


def test_call_waits_as_long_as_it_is_told(net: Network) -> None:
    started = time.monotonic()
    done = co2(net, "call", "nasty.nasty.sleep", "--timeout", "0.3")
    assert (done.returncode, done.stdout) == (5, "")
    assert "0.3 s" in done.stderr
    assert time.monotonic() - started < 5
    assert co2(net, "call", "ping", "--timeout", "0").returncode == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["no.such.method"], "no.such.method"),
        (["ping", "--host", "nobody@127.0.0.1:1"], "nobody@127.0.0.1:1"),
        (["nasty.nasty.fail"], r"\x1b[2J\x07\x9b31m"),
    ],
)
def test_a_fault_is_1_and_one_line(net: Network, args: list[str], said: str) -> None:
    done = co2(net, "call", *args)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(r"co2: fault -?\d+: ", done.stderr)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not CONTROL.search(done.stderr)


def test_a_fault_at_a_terminal_moves_no_cursor(net: Network) -> None:
    code, sent = at_terminal(net, "call", "nasty.nasty.fail")
    assert code == 1
    assert not CONTROL.search(sent)


def test_what_call_returns_at_a_terminal(net: Network) -> None:
    code, sent = at_terminal(net, "call", "nasty.nasty.say")
    assert (code, sent) == (0, '"\\u007f\\u009b31m"\n')
    code, sent = at_terminal(net, "call", "co2.get_properties")
    assert sent.startswith('{\n  "'), "for people it is indented"


# ---- ps and methods ------------------------------------------------------------------------------------


def test_ps_is_a_table(net: Network) -> None:
    done = co2(net, "ps")
    assert (done.returncode, done.stderr) == (0, "")
    first, headings, row, *_ = done.stdout.splitlines()  # below may be that nasty has raised
    assert first.startswith(f"relay house ({net.relay.host_id}), co2 {__version__}, up ")
    assert ", 1 satellite (as of " in first
    assert headings.split()[:7] == ["NAME", "STATE", "KIND", "AGE", "LAG", "LINK", "METHODS"]
    assert row[headings.index("LINK") :].startswith("ok ")
    assert (row.split()[0], row.split()[-1]) == ("stage-pi", net.satellite.host_id)
    assert row.index("nasty.nasty.X_Nasty, recorder.rec.X_Recorder") == headings.index("PLUGINS")


def test_ps_in_json(net: Network) -> None:
    found = json.loads(co2(net, "ps", "--json").stdout)
    assert found["relay"]["host_id"] == net.relay.host_id
    assert [row["host_id"] for row in found["satellites"]] == [net.satellite.host_id]
    assert found["satellites"][0]["link"]["full"] is False


def test_ps_with_counters_of_every_host(net: Network) -> None:
    co2(net, "send", '{"data": "counted"}')
    with net.relay.proxy() as proxy:
        foreign = proxy.relay.register({"name": "desk"})["host_id"]
        try:
            done = co2(net, "ps", "--counters")
            found = json.loads(co2(net, "ps", "--counters", "--json").stdout)
        finally:
            proxy.relay.unregister({"host_id": foreign})
    assert (done.returncode, done.stderr) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in done.stdout.partition("COUNTERS")[2].splitlines() if line)
    assert set(rows) == {"house", "stage-pi", "desk"}
    assert re.search(r"\brelayed [1-9]", rows["house"])
    assert re.search(r"\breceived [1-9]", rows["stage-pi"])
    assert rows["desk"] == "-"
    counters = {row["host_id"]: row["counters"] for row in found["satellites"]}
    assert counters[net.satellite.host_id]["memory_bytes"] == 0
    assert counters[foreign] is None
    assert found["relay"]["counters"]["takeovers"] == 0


def test_what_holds_a_link_up_is_said_in_words() -> None:
    quiet = {"bytes": 0, "full": False, "behind": 0, "replaying": 0, "repeats": 3, "live_dropped": 1}
    assert _link(None) == "-"
    assert _link(quiet) == "ok"
    assert _link(quiet | {"bytes": 5000, "full": True, "behind": 2, "replaying": 1}) == (
        "5000 bytes, full, 2 behind, 1 replaying"
    )


def test_methods_of_the_relay_and_behind_it(net: Network) -> None:
    done = co2(net, "methods")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "(struct) → int" in rows["relay.relay"]
    assert "on stage-pi" in rows["recorder.rec.send"]
    assert rows["METHOD"].split() == ["METHOD", "SIGNATURE", "HELP"]


def test_methods_in_json(net: Network) -> None:
    rows = json.loads(co2(net, "methods", "--json", "--url", net.satellite.url).stdout)
    found = {row["name"]: row for row in rows}
    assert found["recorder.rec.send"]["help"].startswith("Send the given data to the network.")
    assert found["recorder.rec.send"]["host_id"] is None
    assert found["nasty.nasty.say"]["help"].startswith("Help \x1b[2J")


def test_help_of_a_method_moves_no_cursor(net: Network) -> None:
    done = co2(net, "methods", "--url", net.satellite.url)
    assert r" Help \x1b[2J\x07 with \x9b31m control" in done.stdout
    assert not CONTROL.search(done.stdout)
    _, sent = at_terminal(net, "methods", "--url", net.satellite.url, NO_COLOR="1")
    assert not CONTROL.search(COLOUR.sub("", sent))
    assert "\x1b[2J" not in sent


# ---- colours -------------------------------------------------------------------------------------------


def test_colours_are_for_terminals_only(net: Network) -> None:
    assert COLOUR.search(at_terminal(net, "ps")[1])
    assert "\x1b" not in co2(net, "ps").stdout
    assert "\x1b" not in at_terminal(net, "ps", NO_COLOR="1")[1]
    assert "\x1b" not in at_terminal(net, "ps", TERM="dumb")[1]
    assert "\x1b" not in watch(net, "--once")[1]
    assert "\x1b" not in at_terminal(net, "methods", NO_COLOR="1")[1]


# ---- exit codes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["send", '{"data": 1}'],
        ["watch", "--once"],
        ["call", "ping"],
        ["ps"],
        ["methods"],
    ],
    ids=lambda args: args[0],
)
def test_where_nothing_listens_it_is_3(args: list[str], net: Network) -> None:
    done = co2(net, *args, CO2_RELAY="http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "co2: http://127.0.0.1:9 does not answer: Connection refused; "
        "co2 relay starts a relay, co2 satellite a satellite\n"
    )


def test_a_relay_of_another_machine_needs_an_address_that_is_not_only_its_own() -> None:
    code, text = exit_code(NothingListens("http://192.168.1.10:2003", "Connection refused"))
    assert (code, text) == (
        3,
        "http://192.168.1.10:2003 does not answer: Connection refused; "
        "a host accepts connections from other machines only if it was started that way: "
        "co2 relay --bind 0.0.0.0, or co2 satellite --bind 0.0.0.0",
    )
    for here in ("http://localhost:2003", "http://[::1]:2003", "http://127.0.0.2:2003"):
        assert "--bind" not in exit_code(NothingListens(here, "Connection refused"))[1]
    assert "--bind 0.0.0.0" in exit_code(NothingListens("http://desk.lan:2003", "Connection refused"))[1]


@pytest.mark.parametrize(
    "args", [["ps"], ["ps", "--plugins"], ["watch", "--once"], ["send", '{"data": 1}'], ["why", "2"]]
)
def test_a_satellite_that_is_asked_what_only_a_relay_knows_says_so(args: list[str], net: Network) -> None:
    url = net.satellite.url
    done = co2(net, *args, "--relay", url)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Error: {url} is a satellite, and this command needs a relay: " in done.stderr
    assert f"--relay {net.relay.url} is the one of this satellite " in done.stderr
    assert f"co2 plugin ls --url {url}" in done.stderr


def test_what_is_not_there_points_to_the_command_that_shows_what_is(net: Network) -> None:
    done = co2(net, "call", "nope")
    assert done.returncode == 1
    assert done.stderr == (
        "co2: fault -32601: no such method: 'nope'; co2 methods, or system.listMethods, lists the methods\n"
    )
    done = co2(net, "call", "ping", "--host", "nobody@127.0.0.1:1")
    assert done.stderr == (
        "co2: fault 1003: nobody@127.0.0.1:1 is not registered here; call relay.register first; "
        "co2 ps lists the hosts of the network\n"
    )
    done = co2(net, "dead-letters", "--repeat", "99", "--url", net.satellite.url)
    assert done.returncode == 1
    assert "no dead letter has the id 99; co2 dead-letters, or co2.plugin.get_dead_letters, lists" in done.stderr


def test_an_argument_that_the_relay_refuses_is_1(net: Network) -> None:
    done = co2(net, "call", "relay.fetch", '{"data": 1}')
    assert done.returncode == 1
    assert "fault" in done.stderr


# ---- which host ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["--relay", "--url"])
@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["ps", "--json"], "relay"),
        (["watch", "--timeout", "0.1"], "relay"),
        (["send", '{"data": "by either name"}', "--json"], "relay"),
        (["call", "co2.get_properties"], "satellite"),
        (["methods", "--json"], "satellite"),
        (["dead-letters"], "satellite"),
        (["plugin", "ls", "--json"], "satellite"),
        (["plugin", "logs", "nasty"], "satellite"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_the_host_is_named_by_either_spelling(net: Network, args: list[str], told: str, flag: str) -> None:
    host = net.relay if told == "relay" else net.satellite
    done = co2(net, *args, flag, host.url, CO2_RELAY="http://127.0.0.1:9")
    if args[0] == "watch":
        assert (done.returncode, done.stdout) == (5, "")
    else:
        assert (done.returncode, done.stderr) == (0, "")
        shown = {"ps": net.relay.host_id, "send": "position", "dead-letters": "no dead letters"}
        assert shown.get(args[0], "nasty") in done.stdout


@pytest.mark.parametrize("command", ["ps", "watch", "send", "call", "methods", "dead-letters", "plugin ls"])
def test_help_names_both_spellings(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    main_one, other = ("--relay", "--url") if command in ("ps", "watch", "send") else ("--url", "--relay")
    assert re.search(rf"^  {main_one} URL +Host to talk to\.  \[default: .*\n(?: +.*\n)?  {other} URL", out, re.M)
    assert re.search(rf"^  {other} URL +The same as {main_one}\.$", out, re.M)


def test_of_both_spellings_the_last_counts(net: Network) -> None:
    for first, last in (("--relay", "--url"), ("--url", "--relay")):
        done = co2(net, "call", "co2.get_properties", first, net.relay.url, last, net.satellite.url)
        assert json.loads(done.stdout)["role"] == "satellite"


# ---- help ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--help", "-h"):
        assert main([command, flag]) == 0
        found = capsys.readouterr()
        assert found.err == ""
        assert found.out.startswith(f"Usage: co2 {command}")
        _, _, examples = found.out.partition("Examples:\n")
        assert re.match(rf"    co2 {command}", examples)
        assert "\x08" not in found.out
        assert all(len(line) <= 100 for line in found.out.splitlines())


def test_help_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {command}  +\w", out, re.MULTILINE) for command in COMMANDS)
    assert "Exit codes: 0 ok, 1 failed, 2 usage, 3 not reachable" in " ".join(out.split())
    assert main([]) == 2
    assert "Usage: co2" in capsys.readouterr().out


def test_the_version(net: Network) -> None:
    done = co2(net, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"co2 {__version__}\n", "")
