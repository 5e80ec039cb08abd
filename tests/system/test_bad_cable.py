"""A satellite with a bad cable: its link is lost again and again, and the relay does not notice."""

import time
from pathlib import Path

from co2.protocol.relay.takeovers import MAX_TAKEOVERS, WITHIN
from tests.harness import RECORDER, running, wait_for, write_plugin
from tests.soak.cutter import Cutter

CUTS = MAX_TAKEOVERS + 2
"""More than two processes with one state folder may have in a minute."""


def test_it_takes_its_own_place_each_time_and_is_no_clone(tmp_path: Path) -> None:
    write_plugin(tmp_path / "satellite", "ham", mod=RECORDER)
    with running(tmp_path / "relay", "relay") as relay:
        cutter = Cutter(relay.port)
        try:
            with running(tmp_path / "satellite", "satellite", "--relay", cutter.url) as satellite:

                def links() -> int:
                    return satellite.stderr.count("linked to")

                wait_for(links, "it is linked")
                began = time.monotonic()
                for number in range(1, CUTS + 1):
                    assert cutter.cut_one_side() == 1
                    wait_for(lambda number=number: links() > number, "it is linked again", 20)
                assert time.monotonic() - began < WITHIN, "else they were not many"
                with relay.proxy() as proxy:
                    assert proxy.co2.get_properties()["counters"]["takeovers"] == CUTS
                    (row,) = proxy.relay.get_satellites()
                    assert row["host_id"].partition("@")[0] == satellite.host_id.partition("@")[0]
                assert "cloned" not in satellite.stderr + relay.stderr
        finally:
            cutter.close()
