"""Limits on the subscriptions that a satellite sends to its relay: as much as a Hello holds and a relay keeps.

A package with too many patterns gets everything, and its satellite filters, as it does anyway: that costs some
bytes, where a refusal would cost the link. Satellites send no more than the limits, and relays keep no more.
"""

from collections.abc import Sequence

import msgspec

from co2.protocol.wire.link_frames import Subscription, Wish

__all__ = ["MAX_PATTERNS_OF_SATELLITE", "MAX_SUBSCRIPTIONS_SIZE", "bounded"]

MAX_PATTERNS_OF_SATELLITE = 4096
"""Patterns of all packages of a satellite.

Each takes up to 300 bytes at the relay: without a limit, those of one frame could take 46 MiB.
"""

MAX_SUBSCRIPTIONS_SIZE = 160 * 1024
"""Bytes of a satellite's encoded subscriptions.

With as many names as allowed, 75 KiB, a Hello is still shorter than a first frame may be.
"""

_encode = msgspec.msgpack.Encoder().encode


def bounded(subscriptions: Sequence[Subscription]) -> list[Subscription]:
    """Return subscriptions with no more patterns than the limits allow.

    Subscriptions with the most bytes of patterns are widened to everything, of equal ones the last first, until
    the others fit. Without any patterns, all packages of :func:`~co2.protocol.wire.host_names.fitting_packages`
    fit.
    """
    told = list(subscriptions)
    patterns = sum(map(_patterns, told))
    size = sum(len(_encode(sub)) for sub in told)
    if patterns <= MAX_PATTERNS_OF_SATELLITE and size <= MAX_SUBSCRIPTIONS_SIZE:
        return told
    for channels_size, at in sorted(_sizes(told), reverse=True):
        if patterns <= MAX_PATTERNS_OF_SATELLITE and size <= MAX_SUBSCRIPTIONS_SIZE:
            break
        patterns -= _patterns(told[at])
        size -= channels_size
        wish = told[at].wish
        widened = None if wish is None else Wish(wish.number, [">"])
        told[at] = msgspec.structs.replace(told[at], channels=None, wish=widened)
    return told


def _patterns(sub: Subscription) -> int:
    return len(sub.channels or ()) + (len(sub.wish.channels) if sub.wish is not None else 0)


def _sizes(subscriptions: Sequence[Subscription]) -> list[tuple[int, int]]:
    """Return (bytes of its patterns, index) of each subscription with patterns."""
    sizes = []
    for at, sub in enumerate(subscriptions):
        if _patterns(sub):
            wished = b"" if sub.wish is None else _encode(sub.wish.channels)
            sizes.append((len(_encode(sub.channels)) + len(wished), at))
    return sizes
