"""A first co2 plugin, to be read line by line and then changed.

It says hello on the channel ``hello``, greets everybody who says hello there, counts all messages that it
receives, and says goodbye when its satellite stops.

Try it, each command in its own terminal::

    co2 relay
    co2 watch
    co2 satellite --plugin example
    co2 send '{"channel": "hello", "data": "a stranger"}'
    co2 call example.example.count '{"data": null}'
    co2 call example.example.greet '{"data": "John"}'

To make it yours, copy the folder ``example`` into a folder ``plugins``, rename it to, say, ``ham``, and start
``co2 satellite`` in the folder that contains ``plugins``. Or change only its configuration, in ``co2.toml``::

    [satellite]
    plugin_list = ["example"]

    [plugin.example]
    name = "Brian"
    greeting = "Good evening"
"""

from typing import Any

# The only import that a plugin needs from co2.
from co2 import plugin


# The satellite loads every class that is defined in this module, inherits from Co2Plugin and has a name
# that begins with 'X_'. The name of this one is 'example.example.X_Example': package, module, class.
class X_Example(plugin.Co2Plugin):
    """Greets everybody who says hello, and counts the messages that it receives."""

    # Messages on 'live' channels are useful at once or never: they go to the plugins that are there now, and are
    # not stored. A goodbye that arrives when its sender has long been back would only confuse.
    live = ("goodbye",)

    # __init__ may be left out. If it is there, it gets one dictionary, var_dict, and passes it to the superclass.
    def __init__(self, var_dict: dict[str, Any]) -> None:
        super().__init__(var_dict)

        # self.config holds the table [plugin.example] of co2.toml; it is empty if there is none.
        self.who = self.config.get("name", "example")
        self.greeting = self.config.get("greeting", "Hello")

        # The number of messages from each host. receive and the x_ methods of a plugin are called one at a time,
        # in the plugin's own thread, so that plain attributes like this one need no lock.
        self.heard: dict[str, int] = {}

        # send already works here. A message is a dictionary. Its only mandatory key is 'data', whose value may be
        # a number, text, bytes, a list, a dictionary … Receivers usually select messages by the key 'channel'.
        self.send({"channel": "hello", "data": self.who})

        # log writes to the satellite's co2.log, debug to its debug.log. Each line begins with this plugin's name.
        # Text and values are separate arguments, as in the logging module.
        self.log("ready, my name is %s", self.who)

    # All messages of other plugins arrive here; a plugin does not receive its own. receive should return within a
    # second; start a thread for longer work.
    def receive(self, data_dict: dict[str, Any]) -> None:
        """Count the message, and greet back if it is a hello."""
        # It has all keys of the sender, and two that the hosts set and nobody can fake: 'host_id', the sender, and
        # 'client_address', the address that the sender's connection came from.
        sender = data_dict["host_id"]
        self.heard[sender] = self.heard.get(sender, 0) + 1
        self.debug("message %d from %s: %r", self.heard[sender], sender, data_dict["data"])

        # The answer goes to another channel than 'hello': otherwise two examples would greet each other for ever.
        if data_dict.get("channel") == "hello":
            self.send({"channel": "greeting", "data": f"{self.greeting}, {data_dict['data']}!"})

    # Everybody on the network can call a method whose name begins with 'x_'. The network name of this one is
    # 'example.example.count': package, module, and the name without 'x_'. Such a method takes one dictionary and
    # returns a value that a message may contain. Its docstring is its help, and its type hints are its signature;
    # 'co2 methods' shows both.
    def x_count(self, data_dict: dict[str, Any]) -> dict[str, int]:
        """Return the number of messages from each host."""
        return self.heard

    def x_greet(self, data_dict: dict[str, Any]) -> str:
        """Greet the person whose name is in 'data', on the network and in the answer."""
        # An exception here does no harm: the caller gets an error, and the log gets the traceback.
        name = data_dict["data"]
        if not isinstance(name, str):
            raise TypeError(f"'data' should be a name, not {name!r}")
        text = f"{self.greeting}, {name}!"
        self.send({"channel": "greeting", "data": text})
        return text

    # Called once, when the satellite stops. Close files, end threads and say goodbye here: messages that are sent
    # here are still sent.
    def __exit__(self, *exc_info: object) -> None:
        self.send({"channel": "goodbye", "data": self.who})
        self.log("heard %d messages, goodbye", sum(self.heard.values()))
