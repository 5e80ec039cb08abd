"""The files that ``co2 plugin new --relay`` writes: a relay plugin to start from, a test and a README."""

__all__ = ["MODULE", "README", "TEST", "WHAT"]

WHAT = "A relay plugin of co2 that keeps the numbers of a channel within limits."

MODULE = '''
"""Keeps the numbers of a channel within limits as they pass the relay, and drops messages without a number."""

from typing import Any

import msgspec

from co2 import plugin


class Config(msgspec.Struct):
    """The keys of the table [plugin.@NAME@] in the relay's co2.toml, with their types and defaults."""

    low: float = 0.0
    high: float = 1.0


class @KIND@(plugin.Co2RelayPlugin):
    """Keeps the numbers of a channel within limits."""

    Config = Config
    config: Config
    channels = ("@NAME@",)  # relay gets only these; * stands for one token, > at the end for one or more

    def __init__(self, var_dict: dict[str, Any]) -> None:
        super().__init__(var_dict)
        self.dropped = 0

    def relay(self, data_dict: dict[str, Any]) -> dict[str, Any] | None:
        """Return the message to pass on, or None to drop it. All later messages wait meanwhile, so be quick."""
        value = data_dict["data"]
        if not isinstance(value, int | float):
            self.dropped += 1
            return None
        data_dict["data"] = min(self.config.high, max(self.config.low, value))
        return data_dict

    def x_dropped(self, data_dict: dict[str, Any]) -> int:
        """Return the number of dropped messages."""
        return self.dropped
'''

TEST = '''
"""Tests of the plugin. The fixtures come with co2: co2_net is a network in memory, co2_host starts real hosts."""

import subprocess
import sys
from pathlib import Path

import pytest

from co2 import plugin
from @NAME@.@NAME@ import @KIND@

PACKAGE = Path(__file__).parents[1]


class X_Receiver(plugin.Co2Plugin):
    """Receives all messages; the fixture records them."""

    def receive(self, data_dict):
        pass


@pytest.mark.parametrize(("given", "arrives"), [(0.5, 0.5), (7, 1.0), (-7, 0.0)])
def test_numbers_are_kept_within_limits(co2_net, given, arrives):
    co2_net.relay.load(@KIND@)
    receiver = co2_net.satellite(X_Receiver)
    co2_net.send({"channel": "@NAME@", "data": given})
    assert [message["data"] for message in receiver.received] == [arrives]


def test_text_is_dropped_and_other_channels_pass(co2_net):
    co2_net.relay.load(@KIND@)
    receiver = co2_net.satellite(X_Receiver)
    co2_net.send({"channel": "@NAME@", "data": "much"})
    co2_net.send({"channel": "something.else", "data": "much"})
    assert [message["channel"] for message in receiver.received] == ["something.else"]
    assert co2_net.call("@NAME@.@NAME@.dropped") == 1


def test_the_limits_can_be_configured(co2_net):
    co2_net.relay.load(@KIND@, config={"high": 127})
    receiver = co2_net.satellite(X_Receiver)
    co2_net.send({"channel": "@NAME@", "data": 200})
    assert [message["data"] for message in receiver.received] == [127]


def test_it_works_in_a_real_relay(co2_host):
    relay = co2_host("relay", PACKAGE)
    relay.call("relay.relay", "much", channel="@NAME@", host_id="somebody@127.0.0.1:0")
    assert relay.call("@NAME@.@NAME@.dropped") == 1


def test_co2_finds_no_problems():
    command = [sys.executable, "-m", "co2", "plugin", "check", str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
'''

README = """
# @NAME@

A relay plugin of co2 that keeps the numbers of a channel within limits, for all receivers, and drops other data.

To test it:

```
python3 -m pip install pytest     # only if pytest is not installed
pytest
co2 plugin check .
```

To run it, type each line in its own terminal, in this folder. `--plugin-dir` names the folder that contains the
package.

```
co2 relay --plugin-dir .. --plugin @NAME@
co2 satellite --plugin example
co2 watch
co2 send '{"channel": "@NAME@", "data": 7}'
co2 call @NAME@.@NAME@.dropped
```

You can also install it on the relay's machine. The relay finds it by its name:

```
pip install .
co2 relay --plugin @NAME@
```

The attribute `channels` of the class names the channel. To use other limits, write in the relay's `co2.toml`:

```toml
[plugin.@NAME@]
low = 0
high = 127
```
"""
