"""A satellite on another machine that listens on 127.0.0.1 only: read and controlled from the relay's machine."""

import json
import re
import shutil
import sys
from pathlib import Path

from tests.attacks.test_shares import in_own_network, need_own_network
from tests.needs import skip_or_fail


def test_it_is_reloaded_and_its_log_and_dead_letters_are_read(tmp_path: Path) -> None:
    need_own_network()
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        skip_or_fail("no ip (iproute2) or no nsenter (util-linux) here")
    ended = in_own_network(sys.executable, "-m", "tests.system.managed_from_afar", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout)
    host = seen["host"]

    assert seen["its port answers"] is False, "nothing can dial it"
    assert seen["ls"]["code"] == 0, seen["ls"]
    assert "ham" in seen["ls"]["out"]
    assert "running" in seen["ls"]["out"]

    (letter,) = json.loads(seen["letters"]["out"])
    assert letter["message"]["data"] == "eggs"
    assert "a secret of /" in letter["reason"], "the whole reason, with the path that others do not get"

    assert seen["at the satellite"]["code"] == 2
    assert "is a satellite, and this command needs a relay" in seen["at the satellite"]["err"]
    assert seen["refused"]["code"] == 4
    assert "only from the relay's own machine" in seen["refused"]["err"]

    assert seen["reload"]["code"] == 0, seen["reload"]
    assert seen["reload"]["out"].startswith("ham: reloaded, load 2, code ")
    assert seen["logs"]["code"] == 0, seen["logs"]
    assert "this is code 1" in seen["logs"]["out"]
    assert "this is code 2" in seen["logs"]["out"]

    assert seen["repeat"]["code"] == 0, seen["repeat"]
    assert seen["again"]["code"] == 1
    assert "no dead letter has the id" in seen["again"]["err"]
    assert seen["drop"]["out"] == "dropped 0 dead letters\n"
    assert seen["none"]["code"] == 1
    assert "'spam': it is not loaded" in seen["none"]["err"]

    shown = {page: text for page, (_, text) in seen["pages"].items()}
    assert {page: status for page, (status, _) in seen["pages"].items()} == {
        **dict.fromkeys(("list", "packages", "log", "letters", "pressed"), 200),
        **{"forged": 403, "unknown": 404},
    }
    assert '<a href="/satellites/foyer-pi/">' in shown["list"]
    assert '<a href="/satellites/foyer-pi/log?package=ham">' in shown["packages"]
    assert "Takes no eggs." in shown["packages"]
    assert "load 2" in shown["packages"]
    assert "this is code 2" in shown["log"]
    assert "None." in shown["letters"]
    assert "It runs the code that is in its folder: load 3" in shown["pressed"]
    assert seen["page there"]["out"].startswith("403 only from the relay's own machine")
    assert "On the relay's machine this page has one." in seen["list there"]["out"]
    assert "/satellites/foyer-pi/" not in seen["list there"]["out"]

    assert re.search(rf"asks [a-z0-9-]+ \({host}@10\.77\.0\.2", seen["relay's log"])
    assert "reload package 'ham'" in seen["relay's log"]
    assert "at the relay's machine asks: reload package 'ham'" in seen["satellite's log"]
    assert "127.0.0.1:" in seen["satellite's log"].partition(" at the relay's machine asks: reload")[0]
