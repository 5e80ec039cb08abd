"""What the author of a relay plugin sees: one class to inherit from, and what it may do on the way of messages."""

from typing import TYPE_CHECKING, Any

from co2.plugin.api import Co2Plugin

if TYPE_CHECKING:
    from co2.protocol.wire.plugin_frames.frames import Host

__all__ = ["Co2RelayPlugin"]


class Co2RelayPlugin(Co2Plugin):
    """Base of every relay plugin. Inherit from it in a class whose name begins with ``X_``.

    A relay carries the packages that its ``plugin_list`` names, each in a process of its own, and messages pass
    their plugins in that order: a chain. All that a plugin of a satellite has is here too (``send``, ``x_``
    methods, ``every``, ``config``, ``store``, ``call``, ``hosts``, ``joined``, ``left``, ``handover``), but for
    ``receive``: messages come to :meth:`relay`, also those that no satellite wants.

    What it may not do: change who sent a message, hold it back, or make two of one. A message that is to come
    later is dropped and sent anew. When the plugin raises, hangs or dies, messages pass it by, unchanged: they are
    counted, and shown.
    """

    def relay(self, data_dict: dict[str, Any]) -> Any:
        """Take a message on its way to everybody else; override it.

        Every message of the network waits for this: it should return within microseconds. What it raises goes to
        the log, and the message on as it came.

        Args:
            data_dict: the sender's keys, ``data`` among them, and its ``host_id`` and ``client_address``. It may
                be changed.

        Returns:
            What goes on: this dictionary, or another one; ``None`` drops the message. ``host_id`` and
            ``client_address`` stay the sender's, whatever it says.
        """
        return data_dict

    def register(self, host: "Host") -> Any:
        """Admit or refuse a satellite, or another client, that wants to join; override it.

        It is no lock: who is asked for no more than 5 s is let in, and so is everybody while the plugin is not
        running.

        Args:
            host: its ``host_id`` with the address that the relay sees; its ``methods`` and ``plugins`` as far as
                it tells them already: a satellite asks before it has loaded any, and ``joined`` comes with them.

        Returns:
            A text that says why it is refused, or ``False``; anything else admits it.
        """
