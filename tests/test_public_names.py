"""Every public name of co2.plugin and co2.testing is in an example that runs; every promised error is there.

Which test runs the examples of a page: tests/test_docs.py.
"""

import inspect
import re

import pytest

from co2 import plugin, testing
from co2.plugin.api import Co2Plugin
from tests.test_docs import ROOT, blocks

PLUGIN_PAGES = ("docs/how-to/plugins.md", "docs/how-to/plugin-services.md")
TESTING_PAGES = ("docs/how-to/test-plugins.md",)
"""Pages whose Python examples are run, all of them. A further page of either goes here."""

PAGES_OF = {"Co2RelayPlugin": ("docs/how-to/relay-plugins.md",)}
"""Names of co2.plugin with pages of their own, which must be run as well."""

OURS = {
    "Carried": {
        *(
            "add",
            "admit",
            "asleep",
            "attend",
            "busy",
            "call",
            "callback",
            "channels",
            "complain",
            "cut",
            "end",
            "exit",
            "finished",
        ),
        *("flush", "found", "give_up", "has_sent", "in_own_thread", "initialised", "jobs", "mail", "make"),
        *("snapshot", "record", "report", "run_jobs", "send", "services", "step", "stumble", "turn"),
    },
    "Clock": {"attach", "make_timers"},
    "HostProcess": {"process", "ready_line"},
    "Network": {
        *(
            "answer",
            "close",
            "core",
            "driver",
            "forget",
            "log",
            "lost",
            "opened",
            "patience",
            "tables_with",
            "url",
        ),
        *("wires", "work", "working"),
    },
    "RealNetwork": {"patience"},
    "Relay": {
        *("answer", "ask", "cut", "failed", "flushed", "give", "having", "hosts", "joined", "left", "make_timers"),
        *("names", "network", "packages", "patience", "transited", "var_dict", "work"),
    },
    "Satellite": {
        *("answer", "carry", "core", "cut", "driver", "failed", "flushed", "having", "hosts", "known"),
        *("make_timers", "names", "network", "packages", "patience", "peer", "transited", "var_dict", "work"),
        "written",
    },
    "Timer": {"begin", "done", "fire"},
}
"""Names without an underscore that are for co2 itself, not for authors: what the docs say of them is nothing."""


def examples(pages: tuple[str, ...]) -> str:
    return "\n".join(code for page in pages for code in blocks(page, "python") if not code.startswith("{"))


def members(kind: type) -> set[str]:
    """Names of a class, also of attributes that its methods set, that do not begin with an underscore."""
    found: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] == "co2":
            found |= {*vars(base), *vars(base).get("__annotations__", {})}
            found |= set(re.findall(r"self\.(\w+)(?:: [^=\n]+)?(?:, self\.\w+)* = ", inspect.getsource(base)))
            found |= set(re.findall(r"self\.\w+, self\.(\w+) = ", inspect.getsource(base)))
    return {name for name in found if not name.startswith("_")}


def is_used(name: str, code: str) -> bool:
    """Whether an example uses a member: ``.name``."""
    return re.search(rf"\.{name}\b", code) is not None


def is_written(name: str, code: str) -> bool:
    """Whether an example defines a member of a class: ``def name``, ``name = ``."""
    return re.search(rf"^    (?:async )?def {name}\b|^def {name}\b|^    {name} = ", code, re.M) is not None


@pytest.mark.parametrize("name", plugin.__all__)
def test_every_public_name_of_plugin_is_in_an_example(name: str) -> None:
    pages = PAGES_OF.get(name, PLUGIN_PAGES)
    code = examples(pages)
    assert f"plugin.{name}" in code
    kind = getattr(plugin, name)
    if not inspect.isclass(kind):
        return
    public = members(kind) - OURS.get(name, set())
    if kind is plugin.Co2Plugin:
        public |= {"__init__", "__exit__"}
    elif issubclass(kind, plugin.Co2Plugin):
        public -= members(plugin.Co2Plugin)
    assert sorted(one for one in public if not is_used(one, code) and not is_written(one, code)) == []


def test_every_public_name_of_testing_is_in_an_example() -> None:
    code = examples(TESTING_PAGES)
    assert [name for name in testing.__all__ if not re.search(rf"\b{name}\b", code)] == []
    for kind in (getattr(testing, name) for name in testing.__all__ if name[0].isupper()):
        public = members(kind) - OURS.get(kind.__name__, set())
        assert sorted(name for name in public if not is_used(name, code)) == [], kind


def test_what_is_ours_is_there() -> None:
    kinds = {name: getattr(testing, name, None) or getattr(plugin, name) for name in OURS}
    assert {name: OURS[name] - members(kind) for name, kind in kinds.items()} == {name: set() for name in OURS}


def promised() -> dict[str, str]:
    """Errors by name, with what Python's own error they are said to be, ``''`` for none."""
    found: dict[str, str] = {}
    for page in PLUGIN_PAGES:
        for names, base in re.findall(r"^\| ((?:`[A-Z]\w+`(?:, )?)+)(?: \(a `(\w+)`\))? \|", text(page), re.M):
            found |= dict.fromkeys(re.findall(r"\w+", names), base)
        found |= {name: found.get(name, "") for name in re.findall(r"plugin\.errors\.([A-Z]\w+)", text(page))}
    return found


def text(page: str) -> str:
    return (ROOT / page).read_text()


@pytest.mark.parametrize("name", promised())
def test_every_error_that_the_docs_promise_is_there(name: str) -> None:
    assert name in plugin.errors.__all__
    error = getattr(plugin.errors, name)
    assert error.__doc__
    if base := promised()[name]:
        assert issubclass(error, getattr(__builtins__, base, None) or __builtins__[base])  # type: ignore[index]


def test_every_error_that_a_method_of_plugins_raises_is_on_a_page() -> None:
    told = " ".join(map(text, PLUGIN_PAGES))
    raised: set[str] = set()
    for name in members(Co2Plugin):
        _, _, part = (inspect.getdoc(vars(Co2Plugin)[name]) or "").partition("Raises:")
        raised |= {word for line in re.findall(r"^    (\w[\w, ]*):", part, re.M) for word in line.split(", ")}
    assert {"MessageError", "Ambiguous", "CallRefused"} <= raised
    assert sorted(name for name in raised if f"`{name}`" not in told and f".{name}`" not in told) == []
