"""The base class of relay plugins."""

from typing import TYPE_CHECKING, Any

from co2.plugin.api import Co2Plugin

if TYPE_CHECKING:
    from co2.protocol.wire.plugin_frames.frames import Host

__all__ = ["Co2RelayPlugin"]


class Co2RelayPlugin(Co2Plugin):
    """Base of every relay plugin. Inherit from it in a class whose name begins with ``X_``.

    A relay runs the packages that its ``plugin_list`` names, each in its own process, and every message passes
    their plugins in that order: the chain. A relay plugin has everything that a plugin of a satellite has
    (``send``, ``x_`` methods, ``every``, ``config``, ``store``, ``call``, ``hosts``, ``joined``, ``left``,
    ``handover``), except ``receive``: messages come to :meth:`relay`, including those that no satellite wants.

    It may not change the sender of a message, hold a message back, or make two messages of one. To delay a
    message, drop it and send a new one later. If the plugin raises an exception, hangs or dies, messages pass
    unchanged; these messages are counted and shown.
    """

    def relay(self, data_dict: dict[str, Any]) -> Any:
        """Pass a message on to its receivers, change it or drop it; override it.

        Every message of the network waits for this method, so it should return within microseconds. If it raises
        an exception, that is logged, and the message passes unchanged.

        Args:
            data_dict: the sender's keys, including ``data``, and its ``host_id`` and ``client_address``. It may be
                changed.

        Returns:
            The message to pass on: this dictionary or another one; ``None`` drops the message. ``host_id`` and
            ``client_address`` stay those of the sender, whatever the returned dictionary says.
        """
        return data_dict

    def register(self, host: "Host") -> Any:
        """Admit or refuse a satellite or another client that wants to join; override it.

        This is not a security boundary: if there is no answer within 5 s, or the plugin is not running, the client
        is admitted.

        Args:
            host: the ``host_id`` of the client, with the address that the relay sees, and its ``methods`` and
                ``plugins`` as far as it has reported them. A satellite that starts asks before it has loaded any;
                ``joined`` gets them later.

        Returns:
            A text that says why the client is refused, or ``False``; anything else admits it.
        """
