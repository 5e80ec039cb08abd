"""A first co2 plugin, meant to be read line by line and then taken apart.

What it does: it says hello on the channel ``hello``, greets everybody who says hello there, counts all
messages that it hears, and says goodbye when its satellite stops.

Try it, each command in its own terminal::

    co2 relay
    co2 watch
    co2 satellite --plugin example
    co2 send '{"channel": "hello", "data": "a stranger"}'
    co2 call example.example.count '{"data": null}'
    co2 call example.example.greet '{"data": "John"}'

To make it yours, copy the folder ``example`` into a folder ``plugins``, rename it to, say, ``ham``, and start
``co2 satellite`` beside ``plugins``. Or let it be and change only its configuration, in ``co2.toml``::

    [satellite]
    plugin_list = ["example"]

    [plugin.example]
    name = "Brian"
    greeting = "Good evening"
"""

# The only line that a plugin needs from co2. Everything else in this file is ordinary Python.
from typing import Any

from co2 import plugin


# The satellite loads every class that is defined in this module, inherits from Co2Plugin and has a name
# that begins with 'X_'. This one will be known as 'example.example.X_Example': package, module, class.
class X_Example(plugin.Co2Plugin):
    """Greets who says hello, and counts what it hears."""

    # What is of use at once or never goes on channels that are 'live': it is passed on to whoever is there, and
    # kept nowhere. A goodbye that comes when its sender has long been back would only puzzle people.
    live = ("goodbye",)

    # __init__ may be left out. If it is there, it gets one dictionary, var_dict, and must hand it on.
    def __init__(self, var_dict: dict[str, Any]) -> None:
        super().__init__(var_dict)

        # self.config holds the table [plugin.example] of co2.toml; it is empty if there is none.
        self.who = self.config.get("name", "example")
        self.greeting = self.config.get("greeting", "Hello")

        # The messages heard from each host. receive and the x_ methods of a plugin are called one at a
        # time, in the plugin's own thread, so that plain attributes like this one need no lock.
        self.heard: dict[str, int] = {}

        # send works already here. A message is a dictionary, and its one mandatory key is 'data', which may
        # hold numbers, text, bytes, lists, dictionaries … 'channel' is a custom that makes selecting easy.
        self.send({"channel": "hello", "data": self.who})

        # log goes to the satellite's co2.log, debug to its debug.log, both with this plugin's name in front.
        # Text and values are kept apart, as in the logging module.
        self.log("ready, my name is %s", self.who)

    # Everything that the others send arrives here. What this plugin sends itself does not: nobody hears
    # itself. receive should return within a second; work that takes longer belongs in a thread.
    def receive(self, data_dict: dict[str, Any]) -> None:
        """Count the message, and greet back if it is a hello."""
        # The sender's keys are all there, and two more that the hosts have set and nobody can fake:
        # 'host_id', who sent it, and 'client_address', where that connection came from.
        sender = data_dict["host_id"]
        self.heard[sender] = self.heard.get(sender, 0) + 1
        self.debug("message %d from %s: %r", self.heard[sender], sender, data_dict["data"])

        # Answering on another channel than 'hello' is what keeps two examples from greeting for ever.
        if data_dict.get("channel") == "hello":
            self.send({"channel": "greeting", "data": f"{self.greeting}, {data_dict['data']}!"})

    # Methods that begin with 'x_' can be called by everybody on the network. This one is called
    # 'example.example.count': package, module, and the name without its 'x_'. Each takes one dictionary and
    # returns what may travel. Its docstring is its help, its type hints are its signature: 'co2 methods'.
    def x_count(self, data_dict: dict[str, Any]) -> dict[str, int]:
        """Tell how many messages came from each host."""
        return self.heard

    def x_greet(self, data_dict: dict[str, Any]) -> str:
        """Greet whoever is named in 'data', on the network and in the answer."""
        # An exception in here does no harm: the caller gets an error and the log gets the traceback.
        name = data_dict["data"]
        if not isinstance(name, str):
            raise TypeError(f"'data' should be a name, not {name!r}")
        text = f"{self.greeting}, {name}!"
        self.send({"channel": "greeting", "data": text})
        return text

    # Called once, when the satellite stops. The place to close files, end threads and say goodbye: what
    # is sent here still goes out.
    def __exit__(self, *exc_info: object) -> None:
        self.send({"channel": "goodbye", "data": self.who})
        self.log("heard %d messages, goodbye", sum(self.heard.values()))
