"""What the documentation says is so: links, tables and code blocks."""

import contextlib
import json
import os
import re
import select
import shlex
import shutil
import subprocess
import sys
import textwrap
import threading
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from co2 import errors, plugin
from co2.config import load_config
from co2.config.schema import KEYS
from co2.plugins.map import map as map_plugin
from co2.plugins.map.lanes import STEPS
from co2.plugins.map.routes import MAX_CHAIN, Route, circle_or_chain_problem
from co2.plugins.map.settings import MAX_ENTRIES, MAX_RATE, MAX_SMOOTH, MapEntry
from co2.plugins.osc.settings import read_settings
from co2.plugins.throttle.settings import ThrottleSettings
from co2.plugins.udp.settings import UdpSettings
from co2.testing import assert_received
from tests.harness import running, wait_for, write_plugin
from tests.needs import skip_or_fail
from tests.plugin.support import carrying, in_loop, write_package
from tests.plugins.carry import carried

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def blocks(page: str, language: str) -> list[str]:
    """Code blocks of a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)


def prose(page: Path) -> str:
    """Return the text of a page without its code blocks, in which nothing is a title or a link."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Return what a link to a page may name behind its ``#``: one anchor for each title, as GitHub makes them."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.*)$", prose(page), re.M):
        name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        assert name not in found, f"{page.name} has two titles {title!r}"
        found.add(name)
    return found


def linked_from(page: Path) -> list[tuple[Path, str]]:
    """Return the files and anchors that a page links to, but for other sites."""
    without_code = re.sub(r"`[^`\n]*`", "code", prose(page))
    links = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", without_code)
    return [
        ((page.parent / target).resolve() if target else page, anchor)
        for target, anchor in links
        if not target.startswith(("http://", "https://"))
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_and_anchor_exists(page):
    for target, anchor in linked_from(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target.relative_to(ROOT)} has no title #{anchor}"


def test_the_index_has_every_page():
    """docs/README.md links to each page below docs/, and to each once."""
    index = ROOT / "docs" / "README.md"
    linked = [
        target for target, anchor in linked_from(index) if not anchor and target.is_relative_to(ROOT / "docs")
    ]
    assert sorted(linked) == [page for page in PAGES if page.is_relative_to(ROOT / "docs") and page != index]


def test_every_file_that_the_architecture_page_names_exists():
    """By its path below src/co2/, or from the root, or by its name alone in a section about its folder."""
    named = set(re.findall(r"`([\w./-]+(?:\.(?:py|c|html|in)|/))`", prose(ROOT / "docs/architecture.md")))
    places = [ROOT, ROOT / "src/co2"]
    names = {path.name for path in [*ROOT.glob("src/co2/**/*"), *ROOT.glob("tests/**/*.py")]}
    unknown = [one for one in named if one.rstrip("/") not in names]
    assert sorted(one for one in unknown if not any((place / one).exists() for place in places)) == []


def test_the_architecture_page_says_in_which_process_each_file_runs():
    """By the file's path, its name alone, or the path of a folder that it is in."""
    page = prose(ROOT / "docs/architecture.md")
    rows = re.findall(r"^\| (.*)", page.partition("## In which process")[2].partition("\n## ")[0], re.M)
    named = set(re.findall(r"`([\w./]+(?:\.py|/))`", " ".join(rows)))
    folders = tuple(one for one in named if one.endswith("/"))
    files = [path.relative_to(ROOT / "src/co2") for path in (ROOT / "src/co2").rglob("*.py")]
    unknown = [one for one in files if not str(one).startswith(folders) and not {str(one), one.name} & named]
    assert sorted(str(one) for one in unknown if one.name not in ("__init__.py", "__main__.py")) == []


def test_every_page_that_a_file_names_exists():
    """Code, tests and pages name a page of the documentation by its path from the root: ``docs/…``."""
    files = [
        path for folder in ("src", "tests", "tools", "bench", "docs") for path in (ROOT / folder).rglob("*.*")
    ]
    for path in [*files, *ROOT.glob("*.md"), ROOT / "Makefile"]:
        hidden = any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        if not hidden and path.suffix in ("", ".c", ".html", ".md", ".py", ".sh"):
            text = path.read_text(encoding="utf-8", errors="replace")
            for named in re.findall(r"(?<![\w/.-])docs/[\w/-]+\.md", text):
                assert (ROOT / named).exists(), f"{path.relative_to(ROOT)}: {named}"


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/tutorial/first-plugin.md",
        "docs/how-to/plugins.md",
        "docs/how-to/bundled-plugins.md",
        "docs/how-to/json.md",
        "docs/how-to/plugin-services.md",
        "docs/how-to/relay-plugins.md",
        "docs/how-to/test-plugins.md",
        "docs/reference/protocol.md",
    ],
)
def test_code_is_python(page):
    for code in blocks(page, "python"):
        compile(code.replace("…", "None"), page, "exec")


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/first-plugin.md"])
def test_the_first_plugin_does_what_the_page_says(page):
    space: dict = {}
    exec(blocks(page, "python")[0], space)
    with carried(space["X_Spam"]) as plugin:
        plugin.receive({"channel": "voice", "data": "shrubbery"})
        plugin.receive({"channel": "echo", "data": "SHRUBBERY"})
        assert plugin.sent == [{"channel": "echo", "data": "SHRUBBERY"}]
        if page == "README.md":
            assert plugin.x_call_me({"data": "John"}) == "hello John"


def test_faults_are_those_of_errors():
    rows = dict(re.findall(r"^\| (-?\d+) \| (\w+) \|", (ROOT / "docs/reference/protocol.md").read_text(), re.M))
    known = {
        str(error.code): error.__name__
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.PeerError) and "code" in vars(error)
    }
    known.pop(str(errors.PeerError.code))
    assert rows == known


def test_every_key_is_in_its_table_with_its_default():
    text = (ROOT / "docs/reference/configuration.md").read_text()
    sections = dict(re.findall(r"^## Keys of ([^:\n]*).*?\n(.*?)(?=^## )", text, re.M | re.S))
    section_of = {("relay", "satellite"): "both roles", ("relay",): "a relay", ("satellite",): "a satellite"}
    told = {
        (where, name): default
        for where, section in sections.items()
        for name, default in re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|", section, re.M)
    }
    assert set(told) == {(section_of[key.roles], key.name) for key in KEYS}
    for key in KEYS:
        default = told[section_of[key.roles], key.name]
        if isinstance(key.default, bool):
            assert default == str(key.default).lower(), key.name
        elif isinstance(key.default, int | float):
            assert float(default.partition(" ")[0].replace(",", "")) == key.default, key.name
        elif isinstance(key.default, str):
            assert default == f'`"{key.default}"`', key.name


@pytest.mark.parametrize("role", ["relay", "satellite"])
def test_the_example_configuration_is_one(tmp_path, role):
    (tmp_path / "co2.toml").write_text(blocks("docs/reference/configuration.md", "toml")[0])
    config = load_config(role, {}, {}, tmp_path)
    assert config.plugin_config["osc"]["listen"] == "127.0.0.1:9000"
    for page in ("plugins", "plugin-services", "relay-plugins", "bundled-plugins"):
        for example in blocks(f"docs/how-to/{page}.md", "toml"):
            (tmp_path / "co2.toml").write_text(example)
            load_config(role, {}, {}, tmp_path)


def test_the_examples_of_the_kit_do_what_the_page_says(tmp_path):
    """All of them together are a package: it is loaded, called and looked at as the page says."""
    (tmp_path / "co2.toml").write_text(blocks("docs/how-to/plugin-services.md", "toml")[0])
    for code in blocks("docs/how-to/plugin-services.md", "python"):
        path = tmp_path / re.match(r"# (\S+)", code)[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    with running(tmp_path / "relay", "relay") as relay:
        with (
            running(tmp_path, "satellite", "--relay", relay.url) as host,
            running(tmp_path / "other", "satellite", "--relay", relay.url) as other,
            host.proxy() as proxy,
        ):
            ham = proxy.ham
            assert ham.speaker.speak({"data": None}) == "John!!!!!!!!!!!"
            assert [ham.counter.count({"data": None}) for _ in range(2)] == [1, 2]
            assert ham.greeter.greet({"data": {"name": "John", "times": 2}}) == "hello John John"
            [shown] = blocks("docs/how-to/plugin-services.md", "json")
            assert proxy.co2.get_method_schema("ham.fader.fade") == json.loads(shown)
            assert ham.caller.ask({"data": "John"}) == "hello John"
            assert ham.caller.ask_all({"data": None})[0] == "hello all"
            with relay.proxy() as sender:
                for channel in ("lab.meter", "lab.fader", "stage.left.fader"):
                    sender.relay.relay({"host_id": "john@127.0.0.1:0", "channel": channel, "data": 0.5})
            wait_for(lambda: ham.dimmer.heard({"data": None}) == ["lab.meter", "stage.left.fader"], "its channels")
            told = "Takes {'data': {name: string, times: int = 1}}."
            assert told in proxy.co2.get_method_help("ham.greeter.greet")
            assert told in (ROOT / "docs/how-to/plugin-services.md").read_text()
            origin = host.host_id.partition("@")[0]
            assert [one.partition("@")[0] for one in ham.watcher.greeters({"data": None})] == [origin]
            joined = f"{other.call('co2.get_properties')['name']} is here with []"
            wait_for(lambda: joined in host.log(), "who joined")
            wait_for(lambda: proxy.co2.get_properties()["counters"]["sent"] == 3, "three ticks")
            ended = {"every": 0.1, "missed": 0, "ended": True}
            assert ham.clock.ticks({"data": None}) == ended
            assert ham.fader.fade({"data": {"level": 0.5}}) == 0.5
            assert ham.meter.keep({"data": 11}) == "on the relay's disk"
            told = f"ham.meter.X_Meter is on {origin}@"
            wait_for(lambda: told in host.log("debug.log"), "what debug writes")
        assert "the last level was 0.0" in host.log()
        with relay.proxy() as sender:
            sender.relay.relay({"host_id": "john@127.0.0.1:0", "channel": "stage.left", "data": 0.5})
        with running(tmp_path, "satellite", "--relay", relay.url) as host, host.proxy() as proxy:
            assert proxy.ham.counter.count({"data": None}) == 3
            wait_for(lambda: proxy.ham.meter.level({"data": None}) == 0.5, "what came while it was not there")


@pytest.mark.parametrize("page", ["docs/how-to/test-plugins.md", "docs/how-to/relay-plugins.md"])
def test_the_examples_of_testing_pass(tmp_path, page):
    """All of them together are one test file beside packages, for a pytest of its own."""
    files: dict[str, str] = {}
    for code in [*blocks(page, "python"), *blocks(page, "toml")]:
        if named := re.match(r"# (\S+\.(py|toml))\n", code):
            files[named[1]] = files.get(named[1], "") + code
    for name in re.findall(r"`(plugins/\w+/__init__\.py)`", (ROOT / page).read_text()):
        files[name] = ""
    for name, code in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    assert all((path.parent / "__init__.py").exists() for path in tmp_path.glob("plugins/*/*"))
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    count = sum(code.count("def test_") for code in files.values())
    assert count > 1 and f"{count} passed" in done.stdout


def test_what_one_example_drops_no_other_one_sends():
    text = (ROOT / "docs/how-to/relay-plugins.md").read_text()
    (dropped,) = re.findall(r'startswith\("(\w+\.)"\):\n +return None', text)
    assert dropped not in (ROOT / "docs/how-to/bundled-plugins.md").read_text()


def test_two_machines_see_each_other_as_the_readme_says(tmp_path):
    """Both are this one: what the second is told to start sends, and what the first is told to start shows it."""
    section = (ROOT / "README.md").read_text().partition("## Two machines")[2].partition("\n## ")[0]
    with running(tmp_path / "relay", "relay") as relay:
        lines = [line.partition("  #")[0] for line in section.splitlines() if line.startswith("co2 ")]
        first, second, watch, send = [
            shlex.split(line.replace("http://192.168.1.10:2003", relay.url))[1:] for line in lines
        ]
        assert first == ["relay", "--bind", "0.0.0.0"]
        with running(tmp_path / "second", *second), watching(relay, watch) as told:
            wait_for(lambda: " sysinfo." in told.read_text(), "readings of the second machine")
            subprocess.run([sys.executable, "-m", "co2", *send], check=True, capture_output=True, timeout=30)
            wait_for(lambda: ' hello "from the second"' in told.read_text(), "what the second says")


def test_the_tutorial_does_what_it_says(tmp_path):
    """Its files are written and its commands typed, in order; a block of text is what the last one prints."""
    page = (ROOT / "docs/tutorial/first-plugin.md").read_text()
    for empty in re.findall(r"empty file `([\w/.]+)`", page):
        (tmp_path / empty).parent.mkdir(parents=True)
        (tmp_path / empty).touch()
    with contextlib.ExitStack() as stack:
        reader = Reader(tmp_path, stack)
        for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", page, re.M | re.S):
            if language in ("python", "toml"):
                reader.save(re.match(r"# (\S+)\n", text)[1], text)
            elif language == "text":
                assert reader.printed == text
            else:
                for line in text.splitlines():
                    reader.type(*shlex.split(line))
        assert "1 passed" in reader.printed
        assert ' voice "shrubbery"' in reader.watched.read_text()
        wait_for(lambda: ' echo "SHRUBBERY"' in reader.watched.read_text(), "what the plugin sends")


class Reader:
    """Does what the tutorial says, in a folder, with a relay and a satellite on free ports."""

    def __init__(self, folder, stack):
        self.folder, self.stack = folder, stack
        self.relay = stack.enter_context(running(folder / "relay", "relay"))
        self.satellite = self.watched = None
        self.printed = ""
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("CO2_")}
        self.env["CO2_RELAY"] = self.relay.url

    def save(self, path, text):
        """Write a file; wait until the satellite has loaded new code of the plugin."""
        before = self.load()
        (self.folder / path).write_text(text)
        if self.satellite and path.startswith("plugins/"):
            wait_for(lambda: self.load() > before, "the code that was saved")

    def load(self):
        """Return the number of the load that runs."""
        return self.satellite.call("co2.get_properties")["plugins"][0]["load"] if self.satellite else 0

    def type(self, command, *args):
        """Type a command; one that keeps running is left running, of another one remember what it prints."""
        if args == ("relay",):
            return  # it runs already
        if args[:1] == ("satellite",):
            if self.satellite:
                assert self.satellite.stop() == 0
            options = [*args[1:], "--relay", self.relay.url]
            self.satellite = self.stack.enter_context(running(self.folder, "satellite", *options))
            self.env["CO2_PORT"] = str(self.satellite.port)
        elif args == ("watch",):
            self.watched = self.stack.enter_context(watching(self.relay, ["watch", "--relay", self.relay.url]))
            rows = lambda: self.relay.call("relay.get_satellites")  # noqa: E731
            wait_for(lambda: any(row["kind"] == "watcher" for row in rows()), "the watch")
        else:
            line = [sys.executable, "-m", command, *args]
            done = subprocess.run(line, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stdout + done.stderr
            self.printed = done.stdout


@contextlib.contextmanager
def watching(relay, args):
    """Run ``co2 watch …``; give the file that it writes to."""
    told = relay.folder / "watched"
    with told.open("w") as out, subprocess.Popen([sys.executable, "-m", "co2", *args], stdout=out) as process:
        try:
            yield told
        finally:
            process.terminate()


def test_what_a_bundled_plugin_lacks_is_installed_as_the_readme_says():
    code = "import sys; sys.modules['psutil'] = None; import co2.plugins.sysinfo.readings"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    install = "pip install '.[all]'"
    assert f"{install} in co2's checkout" in done.stderr
    for page in PAGES:
        assert not re.search(r"pip install '(?!\.\[all\])[^']*\[", page.read_text()), page.name
    assert install in (ROOT / "README.md").read_text()
    assert (ROOT / "docs/how-to/bundled-plugins.md").read_text().count(install) == 1


def test_the_bridge_to_osc_needs_nothing_besides_co2():
    """Not python-osc either, which is here for the tests."""
    code = "import sys; import co2.plugin; ours = set(sys.modules); import co2.plugins.osc.osc"
    code += "; print(*{name.partition('.')[0] for name in set(sys.modules) - ours})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert set(done.stdout.split()) <= {"co2", *sys.stdlib_module_names}


def test_the_board_of_the_udp_page_hears_and_is_heard(co2_net):
    relay = co2_net.relay.load("udp", config={"port": 0})
    code = next(code for code in blocks("docs/how-to/bundled-plugins.md", "python") if "sock.recv" in code)
    for found, wanted in (('"192.168.1.10"', '"127.0.0.1"'), ("2013", str(relay.plugin.address[1]))):
        assert found in code
        code = code.replace(found, wanted)
    printed: list = []

    def say(value):
        printed.append(value)
        if len(printed) == 1:
            co2_net.send({"channel": "attic.lamp", "data": "on"})

    space: dict = {"print": say}
    exec(code, space)
    space["sock"].close()
    assert printed == [b'{"subscribed":1}', "on"]
    assert assert_received(co2_net, channel="attic.temperature")["data"] == 21.5


def test_the_tables_of_bundled_relay_plugins_are_those_of_their_settings():
    text = (ROOT / "docs/how-to/bundled-plugins.md").read_text()
    for package, form in (("throttle", ThrottleSettings), ("udp", UdpSettings)):
        table = text.partition(f"| key of `[plugin.{package}]` |")[2].partition("\n\n")[0]
        told = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| `([^`]*)`", table, re.M))
        assert {key: json.loads(value) for key, value in told.items()} == msgspec.to_builtins(form())


def test_the_table_of_maps_has_the_keys_of_an_entry_with_their_defaults():
    text = (ROOT / "docs/how-to/bundled-plugins.md").read_text()
    table = text.partition("| key of `[[map]]` |")[2].partition("\n\n")[0]
    told = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", table, re.M))
    entry = MapEntry(source="a", to="b")
    assert set(told) == set(msgspec.to_builtins(entry))
    assert {key: json.loads(told[key].strip("`")) for key in ("curve", "smooth", "rate", "round")} == {
        "curve": entry.curve, "smooth": entry.smooth, "rate": entry.rate, "round": entry.round,
    }  # fmt: skip
    assert told["range"].startswith("`[0, 1]`") and told["out"].startswith("`[0, 1]`")
    scaling = MapEntry(source="a", to="b", curve=1).scaling
    assert (scaling.low, scaling.high, scaling.out_low, scaling.out_high) == (0, 1, 0, 1)


def test_the_limits_of_maps_are_those_of_the_page():
    page = (ROOT / "docs/how-to/bundled-plugins.md").read_text()
    text = page.partition("## `map`")[2].partition("\n## ")[0]
    assert f"| entries | {MAX_ENTRIES}, of which at most {MAX_CHAIN} follow each other |" in text
    assert f"| {map_plugin.MAX_LANES:,}; when there are more" in text
    assert f"| {map_plugin.MAX_KEPT >> 10} KiB each, {map_plugin.MAX_ALL_KEPT >> 20} MiB together" in text
    assert f"one step of a way | {map_plugin.MAX_BURST} |" in text
    assert f"on all satellites | {map_plugin.MAX_PASSED} |" in text
    assert (
        f"up to {MAX_RATE:,};" in text and f"at most {MAX_SMOOTH:g} s;" in text and f"or {STEPS:g} without" in text
    )
    assert "`entries 1 (a to b) and 2 (b to a) lead in a circle" in text
    assert circle_or_chain_problem([Route("a", "b"), Route("b", "a")]) in text


def test_the_maps_of_the_page_map(co2_net):
    found = next(code for code in blocks("docs/how-to/bundled-plugins.md", "toml") if "[[map]]" in code)
    tables = tomllib.loads(found)
    co2_net.satellite("map", config=tables)
    co2_net.send({"channel": "stage.fader1", "data": 0.5})
    co2_net.send({"channel": "stage.left.level", "data": "any"})
    assert assert_received(co2_net, channel="light.dimmer1")["data"] == 127.5
    assert assert_received(co2_net, channel="light.left.dim")["data"] == "any"


def test_the_osc_example_is_one():
    found = next(code for code in blocks("docs/how-to/bundled-plugins.md", "toml") if "[plugin.osc]" in code)
    tables = tomllib.loads(found)
    assert read_settings(tables["plugin"]["osc"]).send == plugin.Channels(("stage.>", "*.meter"))


def test_the_pieces_of_the_page_of_plugins_are_methods_of_a_plugin(co2_net, capsys):
    """All that begin with ``def`` together are one class, those that begin with ``self`` are done in it."""
    pieces = blocks("docs/how-to/plugins.md", "python")
    methods = "".join(piece for piece in pieces if piece.startswith("def "))
    assert [*re.findall(r"^def (\w+)", methods, re.M)] == ["receive", "x_call_me", "__init__", "__exit__"]
    opened = SimpleNamespace(close=lambda: opened.closed.append(True), closed=[])
    space = {"plugin": plugin, "open_the_port": lambda port: opened}
    exec(
        "class X_Ham(plugin.Co2Plugin):\n"
        + textwrap.indent(methods.replace("super()", "super(X_Ham, self)"), " "),
        space,
    )
    satellite = co2_net.satellite(space["X_Ham"], config={"port": 9000})
    co2_net.send({"data": 2})
    assert capsys.readouterr().out.startswith("2 from ")
    assert satellite.plugin.x_call_me({"data": "John"}) == "hello John"
    for piece in pieces:
        if piece.startswith("self."):
            exec(piece, {"self": satellite.plugin})
    assert [message["data"] for message in satellite.sent] == [2, [1, 2, 3, "shrubbery"], 0.815]
    satellite.stop()
    assert opened.closed == [True]
    assert co2_net.received[-1]["channel"] == "goodbye"


@in_loop
async def test_the_example_of_a_reload_keeps_its_count(tmp_path):
    (code,) = [code for code in blocks("docs/how-to/plugins.md", "python") if "def handover" in code]
    spec = write_package(tmp_path, "ham", spam=code)
    async with carrying([spec]) as carrier:
        carrier.deliver("a", "b")
        await carrier.until(lambda: carrier.sent() == [1, 2], "two messages")
        await carrier.supervisor.reload(write_package(tmp_path, "ham", spam=code.replace('"count", ', '"c", ')))
        carrier.deliver("c")
        await carrier.until(lambda: carrier.sent() == [1, 2, 3], "a third one")
        assert carrier.status("ham").load == 2


class Enough(BaseException):
    """Ends an example that would run for ever."""


def test_the_client_of_the_protocol_page_is_a_member(tmp_path):
    printed: list = []

    def say(*values):
        printed.append(values)
        if len(printed) == 2:
            raise Enough
        # Registered: now somebody else says something.
        with relay.proxy() as other:
            other.relay.relay({"host_id": "john@127.0.0.1:0", "channel": "hello", "data": [1, "nih"]})

    with running(tmp_path, "relay") as relay:
        code = blocks("docs/reference/protocol.md", "python")[0].replace("http://127.0.0.1:2003", relay.url)
        space = {"print": say}
        with pytest.raises(Enough):
            exec(code, space)
        space["relay"]("close")()
    assert printed[0][0]["host_id"].endswith("@127.0.0.1:0")
    assert printed[1][1:] == ("john@127.0.0.1:0", "hello", [1, "nih"])


def test_the_notified_client_of_the_protocol_page_is_a_member(tmp_path):
    printed: list = []
    with running(tmp_path, "relay") as relay, relay.proxy() as other:
        examples = blocks("docs/reference/protocol.md", "python")
        code = next(block for block in examples if "SimpleXMLRPCServer" in block)
        code = code.replace('ServerProxy("http://127.0.0.1:2003").relay', "relay.relay")
        space: dict[str, Any] = {"print": lambda *values: printed.append(values), "relay": other}
        head, _, last = code.rstrip().rpartition("\n")
        assert last == "server.serve_forever()"
        exec(head, space)
        server = space["server"]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with relay.proxy() as sender:
                sender.relay.relay({"host_id": "john@127.0.0.1:0", "data": "nih"})
            wait_for(lambda: printed, "the message")
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
    assert printed == [("john@127.0.0.1:0", "nih")]


@pytest.fixture(scope="module")
def json_relay(tmp_path_factory):
    """A relay, and a satellite with the plugin of docs/how-to/json.md."""
    base = tmp_path_factory.mktemp("json")
    write_plugin(base / "satellite", "ham", spam=blocks("docs/how-to/json.md", "python")[0])
    with (
        running(base / "relay", "relay") as relay,
        running(base / "satellite", "satellite", "--relay", relay.url),
    ):
        rows = lambda: relay.call("relay.get_satellites")  # noqa: E731
        wait_for(lambda: any("ham.spam.add" in row["methods"] for row in rows()), "the plugin is known")
        yield relay


def test_the_curl_commands_of_the_json_page_do_what_it_says(json_relay, tmp_path):
    if shutil.which("curl") is None:
        skip_or_fail("no curl here: tools/install-clients.sh")

    def run(command):
        # Debian 12 has a curl that knows --json; an older one is told what that means.
        line = command.replace("http://127.0.0.1:2003", json_relay.url)
        line = line.replace("--json", "-H 'Content-Type: application/json' -d").replace("curl ", "curl -s ", 1)
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout

    (tmp_path / "messages.jsonl").write_text(*blocks("docs/how-to/json.md", "jsonl"))
    send, lines, call, last, log, copy = (block.strip() for block in blocks("docs/how-to/json.md", "sh"))
    assert json.loads(run(send))["position"] > 0
    assert json.loads(run(lines))["count"] == 2
    assert run(call) == '{"result":42}\n'
    assert [row["message"]["data"] for row in json.loads(run(last))["values"]] == [2]
    run(copy)
    assert json.loads((tmp_path / "package.json").read_text()) == {"type": "module"}
    assert (tmp_path / "co2-live.js").read_bytes() == (ROOT / "src/co2/web/static/co2-live.js").read_bytes()
    read, follow = log.splitlines()
    assert [json.loads(line)["data"] for line in run(read).splitlines()] == [0.5, 2]
    command = follow.partition(" | ")[0].replace("http://127.0.0.1:2003", json_relay.url)
    with subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as curl:
        assert curl.stdout
        try:
            ready = [curl.stdout]
            wait_for(lambda: run(send) and select.select(ready, [], [], 0.1)[0], "a message")
            assert json.loads(curl.stdout.readline())["data"] == 0.5
        finally:
            curl.kill()


def test_the_programs_of_the_json_page_do_what_it_says(json_relay, tmp_path):
    node = blocks("docs/how-to/json.md", "js")[0]
    for name, program, code in (
        ("a.py", sys.executable, blocks("docs/how-to/json.md", "python")[1]),
        ("a.mjs", "node", node),
    ):
        if shutil.which(program) is None:
            skip_or_fail(f"no {program} here")
        (tmp_path / name).write_text(code)
        command = [program, str(tmp_path / name), json_relay.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == "sum 42\nstage.fader1 0.5\n", done.stderr
