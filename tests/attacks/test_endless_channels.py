"""Satellites that use ever new channels, up to the limits of last values, and beyond: over real links."""

import json
import sys
from pathlib import Path

import pytest

from co2.protocol.relay.last_values import MAX_OF_SOURCE, MAX_VALUES
from tests.attacks.endless_channels import HONEST, MAY_GROW
from tests.attacks.test_shares import in_own_network, need_own_network


@pytest.mark.timeout(180)
def test_endless_channels_drop_those_of_their_sender_and_no_others(tmp_path: Path) -> None:
    need_own_network()
    ended = in_own_network(sys.executable, "-m", "tests.attacks.endless_channels", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout)
    for how in ("named", "unnamed"):  # frames that name their channels, and such with too many to name them
        told = seen[how]
        assert told["honest"] == HONEST
        assert told["counters"]["last_values"] <= MAX_VALUES
        assert told["counters"]["last_values_dropped"] > 0
        assert told["grown"] < MAY_GROW
        assert told["honest after a restart"] == HONEST
        assert told["counters after a restart"]["last_values"] <= MAX_VALUES
    # Who shares the address of such a sender loses its values: this is counted and told, and the next count again.
    told = seen["same"]
    assert told["honest"] == 0
    assert told["counters"]["last_values"] == MAX_OF_SOURCE
    assert told["counters"]["last_values_dropped"] == HONEST
    assert told["told"]
    assert told["honest again"]
