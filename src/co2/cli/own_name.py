"""The name under which a command is listed at the relay: the same one each time that this user runs it."""

import getpass
import socket

from co2.host_name import sanitised_host_name

__all__ = ["own_name"]


def own_name(command: str) -> str:
    """Return a name made of a command, this user and this machine, such as ``watch-ada-laptop``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name, as in some containers, or Windows
        user = ""
    machine = socket.gethostname().partition(".")[0]
    return sanitised_host_name("-".join(part for part in (command, user, machine) if part))
