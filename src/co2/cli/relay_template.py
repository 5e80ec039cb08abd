"""The files that ``co2 plugin new --relay`` writes: a relay plugin to start from, a test and a README."""

__all__ = ["MODULE", "README", "TEST", "WHAT"]

WHAT = "A relay plugin of co2 that keeps the numbers of a channel within limits."

MODULE = '''
"""@NAME@: numbers of a channel are kept within limits on their way through the relay; what is none is dropped."""

from typing import Any

import msgspec

from co2 import plugin


class Config(msgspec.Struct):
    """The table [plugin.@NAME@] of the relay's co2.toml: its keys, with their types and defaults."""

    low: float = 0.0
    high: float = 1.0


class @KIND@(plugin.Co2RelayPlugin):
    """Keeps the numbers of a channel within limits."""

    Config = Config
    config: Config
    channels = ("@NAME@",)  # only these come to relay; * stands for one token, > for the rest

    def __init__(self, var_dict: dict[str, Any]) -> None:
        super().__init__(var_dict)
        self.dropped = 0

    def relay(self, data_dict: dict[str, Any]) -> dict[str, Any] | None:
        """Take a message on its way; what is given goes on, None drops it. Whatever comes behind it waits."""
        value = data_dict["data"]
        if not isinstance(value, int | float):
            self.dropped += 1
            return None
        data_dict["data"] = min(self.config.high, max(self.config.low, value))
        return data_dict

    def x_dropped(self, data_dict: dict[str, Any]) -> int:
        """Tell how many messages were dropped."""
        return self.dropped
'''

TEST = '''
"""What the plugin does. The fixtures come with co2: co2_net is a network in memory, co2_host starts real hosts."""

import subprocess
import sys
from pathlib import Path

import pytest

from co2 import plugin
from @NAME@.@NAME@ import @KIND@

PACKAGE = Path(__file__).parents[1]


class X_Ear(plugin.Co2Plugin):
    """Somebody who listens; what it receives is written down."""

    def receive(self, data_dict):
        pass


@pytest.mark.parametrize(("given", "arrives"), [(0.5, 0.5), (7, 1.0), (-7, 0.0)])
def test_numbers_are_kept_within_limits(co2_net, given, arrives):
    co2_net.relay.load(@KIND@)
    ear = co2_net.satellite(X_Ear)
    co2_net.send({"channel": "@NAME@", "data": given})
    assert [message["data"] for message in ear.received] == [arrives]


def test_what_is_no_number_is_dropped_and_other_channels_pass(co2_net):
    co2_net.relay.load(@KIND@)
    ear = co2_net.satellite(X_Ear)
    co2_net.send({"channel": "@NAME@", "data": "much"})
    co2_net.send({"channel": "something.else", "data": "much"})
    assert [message["channel"] for message in ear.received] == ["something.else"]
    assert co2_net.call("@NAME@.@NAME@.dropped") == 1


def test_other_limits(co2_net):
    co2_net.relay.load(@KIND@, config={"high": 127})
    ear = co2_net.satellite(X_Ear)
    co2_net.send({"channel": "@NAME@", "data": 200})
    assert [message["data"] for message in ear.received] == [127]


def test_in_a_real_relay(co2_host):
    relay = co2_host("relay", PACKAGE)
    relay.call("relay.relay", "much", channel="@NAME@", host_id="somebody@127.0.0.1:0")
    assert relay.call("@NAME@.@NAME@.dropped") == 1


def test_co2_would_load_it():
    command = [sys.executable, "-m", "co2", "plugin", "check", str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
'''

README = """
# @NAME@

A relay plugin of co2: on their way through the relay the numbers of a channel are kept within limits, for all;
what is no number is dropped.

```
python3 -m pip install pytest
pytest
co2 plugin check .
```

The first line is needed once, where co2 is installed and pytest is not.

This folder is a package as it is: put it into a plugin folder, or name the folder that it is in.

```
co2 relay --plugin-dir .. --plugin @NAME@
co2 satellite --plugin example
co2 watch
co2 send '{"channel": "@NAME@", "data": 7}'
co2 call @NAME@.@NAME@.dropped
```

Or install it where the relay runs; it then finds it by its name.

```
pip install .
co2 relay --plugin @NAME@
```

Which channel it is stands in the class: `channels`. Other limits, in the relay's `co2.toml`:

```toml
[plugin.@NAME@]
low = 0
high = 127
```
"""
