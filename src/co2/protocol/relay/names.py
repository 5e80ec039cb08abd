"""The names of hosts: each origin has one, and no two have the same.

A name is kept as long as its origin is known (``origins.py``, with the member's record on disk) or connected. So
it is steady across restarts, and nobody else can take it. A host gets the name that it wishes for unless another
one has it; then a number is added, as in ``foyer-pi-2``. It also gets a number where its wish is the beginning of
another's name: else a host that calls itself ``foyer`` would get the calls of people who shorten ``foyer-pi``.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import islice

from co2.errors import Ambiguous, UnknownHost
from co2.host_name import LEAST_OF_ORIGIN, host_name_of_origin, numbered_host_name
from co2.near import nearest

__all__ = ["MAX_FORMER", "MAX_LISTED", "NameBook"]

MAX_LISTED = 8
"""Hosts that are listed if a text can mean several."""

MAX_FORMER = 1_000
"""Names of hosts that have left and are unknown now, to show who sent their last messages; the latest ones."""

MAX_COMPARED = 32
"""Names that are compared with an unknown one."""

_LAST = "\x7f"
"""Behind all characters of names and origins."""


class NameBook:
    """The names of hosts, by origin, with a look-up by name or by the beginning of a name or an origin."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._owners: dict[str, str] = {}
        self._sorted: list[str] = []
        self._origins: list[str] = []
        self._kept: set[str] = set()
        self._present: set[str] = set()
        self._former: dict[str, str] = {}
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._names)

    def get(self, origin: str) -> str:
        """Return the name of an origin, '' if it has none."""
        return self._names.get(origin, "")

    def shown(self, origin: str) -> str:
        """Return the name of an origin, for people: also one that has just left; '' if it is unknown."""
        return self._names.get(origin) or self._former.get(origin, "")

    def owner(self, name: str) -> str:
        """Return the origin that has a name, '' for none."""
        return self._owners.get(name, "")

    # ---- who has which name ----------------------------------------------------------------------------

    def restore(self, origin: str, name: str) -> bool:
        """Restore the name of a known origin from an earlier run; return False if another has it, or it has one.

        Args:
            origin: that the relay knows.
            name: a valid one.
        """
        if name in self._owners or origin in self._names:
            return False
        self._put(origin, name)
        self._kept.add(origin)
        return True

    def give(self, origin: str, wish: str) -> str:
        """Return the name of an origin: the one that it wishes for, if that is possible.

        A host that has a name with a number keeps it, unless its wish is free now. One that wishes for none keeps
        the name that it has.

        Args:
            origin: of the host.
            wish: a valid name; '' for a name made of its origin.
        """
        name = self._names.get(origin, "")
        if name and wish in ("", name):
            return name
        wish = wish or host_name_of_origin(origin)
        if self._is_free(wish, origin):
            new = wish
        elif name and self._is_numbered(name, wish):
            return name
        else:
            new = self._with_number(wish, origin)
        self._take_out(origin)
        self._put(origin, new)
        return new

    def keep(self, origin: str) -> None:
        """Keep the name of an origin until :meth:`drop`: the relay knows the origin."""
        self._kept.add(origin)

    def drop(self, origin: str) -> None:
        """Note that the relay no longer knows an origin: its name is free once it is not connected."""
        self._kept.discard(origin)
        self._release(origin)

    def arrived(self, origin: str) -> None:
        """Keep the name of an origin until :meth:`left`: it is connected."""
        self._present.add(origin)

    def left(self, origin: str) -> None:
        """Note that an origin is no longer connected: its name is free unless the relay knows the origin."""
        self._present.discard(origin)
        self._release(origin)

    # ---- who is meant ----------------------------------------------------------------------------------

    def find(self, text: str) -> str:
        """Return the origin of the host that a text means.

        Args:
            text: a name or an origin; or the beginning of exactly one host's name, or of its origin.

        Raises:
            Ambiguous: it is the beginning of several hosts' names or origins; the text lists them.
            UnknownHost: it means no host; the text has a similar name, if there is one.
        """
        if (origin := self._owners.get(text)) is not None:
            return origin  # names come before origins: members choose both, and names are unique
        found = list(islice(self._beginning(text), MAX_LISTED + 1))
        if text in self._names and text not in found:
            found.insert(0, text)
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(self._described(origin) for origin in found[:MAX_LISTED])
            more = ", …" if len(found) > MAX_LISTED else ""
            raise Ambiguous(f"{text!r} can mean several hosts: {listed}{more}; type more of one")
        meant = self.similar(text)
        raise UnknownHost(
            f"there is no host {text!r}{f'; did you mean {meant!r}?' if meant else ''} "
            "(co2 ps lists the hosts, with those that are away)"
        )

    def similar(self, text: str) -> str:
        """Return a name that was probably meant, '' for none: one that begins or is as long as the text."""
        near = bisect_left(self._sorted, text)
        around = self._sorted[max(0, near - MAX_COMPARED // 2) : near + MAX_COMPARED // 2]
        return nearest(text, around)

    def _beginning(self, text: str) -> Iterator[str]:
        """Yield the origins of the hosts whose name or origin begins with a text, each once.

        A number is not cut: ``pi-1`` does not stand for ``pi-10``.
        """
        seen: set[str] = set()
        names = (self._owners[name] for name in _from(self._sorted, text) if not _cuts_a_number(text, name))
        origins = _from(self._origins, text) if len(text) >= LEAST_OF_ORIGIN else ()
        for found in (names, origins):
            for origin in found:
                if origin not in seen:
                    seen.add(origin)
                    yield origin

    def _described(self, origin: str) -> str:
        return f"{self._names[origin]} ({origin})"

    # ---- how names are made ----------------------------------------------------------------------------

    def _is_free(self, name: str, origin: str) -> bool:
        """Return whether a host may have a name: no other one has it, as its origin or as a beginning either."""
        if self._owners.get(name, origin) != origin or (name in self._names and name != origin):
            return False
        # Names with a number behind this one are no longer ones: they were made of the same wish.
        ranges = [(f"{name}\0", f"{name}-0"), (f"{name}-:", f"{name}0"), (f"{name}:", name + _LAST)]
        if not name[-1].isdigit():
            ranges.append((f"{name}0", f"{name}:"))
        return not any(self._has_other(first, last, origin) for first, last in ranges)

    def _has_other(self, first: str, last: str, origin: str) -> bool:
        begin = bisect_left(self._sorted, first)
        return any(name < last and self._owners[name] != origin for name in islice(self._sorted, begin, begin + 2))

    def _with_number(self, wish: str, origin: str) -> str:
        # Where the last search ended, so that a flood of equal wishes is not searched again for each of them.
        number = self._numbers.get(wish, 2)
        first = number
        while not self._is_free(name := numbered_host_name(wish, number), origin):
            number += 1
        if number - first > MAX_LISTED:
            self._numbers.pop(wish, None)
            self._numbers[wish] = number + 1
            if len(self._numbers) > MAX_FORMER:
                del self._numbers[next(iter(self._numbers))]
        return name

    @staticmethod
    def _is_numbered(name: str, wish: str) -> bool:
        number = name.rpartition("-")[2]
        return number.isdecimal() and name == numbered_host_name(wish, int(number))

    def _put(self, origin: str, name: str) -> None:
        self._names[origin] = name
        self._owners[name] = origin
        self._former.pop(origin, None)
        insort(self._sorted, name)
        insort(self._origins, origin)

    def _release(self, origin: str) -> None:
        if origin in self._kept or origin in self._present or origin not in self._names:
            return
        self._former[origin] = self._names[origin]
        if len(self._former) > MAX_FORMER:
            del self._former[next(iter(self._former))]
        self._take_out(origin)

    def _take_out(self, origin: str) -> None:
        name = self._names.pop(origin, None)
        if name is not None:
            del self._owners[name]
            del self._sorted[bisect_left(self._sorted, name)]
            del self._origins[bisect_left(self._origins, origin)]


def _from(texts: list[str], text: str) -> Iterable[str]:
    """Yield the texts of a sorted list that begin with a text."""
    for one in islice(texts, bisect_left(texts, text), None):
        if not one.startswith(text):
            return
        yield one


def _cuts_a_number(text: str, name: str) -> bool:
    return text[-1:].isdigit() and name[len(text) : len(text) + 1].isdigit()
