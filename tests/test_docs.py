"""What the documentation says is so: links, tables and code blocks."""

import re
import tomllib
from pathlib import Path

import pytest

from co2 import errors
from co2.config import load_config
from co2.config.schema import KEYS
from co2.plugins.osc.settings import read_settings
from tests.plugins.carry import carried

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def blocks(page: str, language: str) -> list[str]:
    """Code blocks of a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target
    anchors = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for target in re.findall(r"\]\(#([^)]*)\)", text):
        assert target in anchors


@pytest.mark.parametrize("page", ["README.md", "docs/plugins.md", "docs/protocol.md"])
def test_code_is_python(page):
    for code in blocks(page, "python"):
        compile(code.replace("…", "None"), page, "exec")


@pytest.mark.parametrize("page", ["README.md", "docs/plugins.md"])
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
    rows = dict(re.findall(r"^\| (-?\d+) \| (\w+) \|", (ROOT / "docs/protocol.md").read_text(), re.M))
    known = {
        str(error.code): error.__name__
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.PeerError) and "code" in vars(error)
    }
    known.pop(str(errors.PeerError.code))
    assert rows == known


def test_every_key_is_in_its_table_with_its_default():
    text = (ROOT / "docs/configuration.md").read_text()
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
        if isinstance(key.default, int | float):
            assert float(default.partition(" ")[0].replace(",", "")) == key.default, key.name
        elif isinstance(key.default, str):
            assert default == f'`"{key.default}"`', key.name


@pytest.mark.parametrize("role", ["relay", "satellite"])
def test_the_example_configuration_is_one(tmp_path, role):
    (tmp_path / "co2.toml").write_text(blocks("docs/configuration.md", "toml")[0])
    config = load_config(role, {}, {}, tmp_path)
    assert config.plugin_config["osc"]["listen"] == "127.0.0.1:9000"
    for example in blocks("docs/plugins.md", "toml"):
        (tmp_path / "co2.toml").write_text(example)
        load_config(role, {}, {}, tmp_path)


def test_the_osc_example_is_one():
    tables = tomllib.loads(blocks("docs/plugins.md", "toml")[1])
    assert read_settings(tables["plugin"]["osc"]).send == (("stage", ">"), ("*", "meter"))
