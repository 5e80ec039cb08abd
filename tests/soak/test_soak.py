"""Twenty kills of the soak, in every run of the tests; ``make soak`` goes on with it."""

import random
from pathlib import Path

import pytest

from tests.soak.network import FAULTS, Network

QUICK = {kind: weight for kind, weight in FAULTS.items() if "40 s" not in kind}
KILLS = 20

SELDOM = {
    "kill a sending plugin host",
    "an older copy of the relay's state",
    "a new state folder of the relay",
}
"""Done once each, where chance has not."""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_promise_is_kept_through_twenty_kills(tmp_path: Path) -> None:
    network = Network(tmp_path, random.Random(11))
    try:
        network.keep_copy()
        while network.kills < KILLS:
            network.cycle(min(8, KILLS - network.kills), QUICK)
        for kind in SELDOM - {kind for kind, times in network.done.items() if times}:
            network.cycle(1, {kind: 1})
        assert sum(receiver.got for receiver in network.receivers.values()) > 1000
    except AssertionError as error:
        raise AssertionError("\n".join([str(error), *network.history])) from error
    finally:
        network.close()
