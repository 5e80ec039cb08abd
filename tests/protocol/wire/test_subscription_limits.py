"""A satellite with more patterns than a relay keeps gets more than it wants, and no package more than needed."""

from co2.protocol.wire.link_frames import Subscription
from co2.protocol.wire.subscription_limits import MAX_PATTERNS_OF_SATELLITE, bounded


def subscription(package: str, patterns: int) -> Subscription:
    return Subscription(package, channels=[f"a.{number}" for number in range(patterns)])


def test_what_fits_stays() -> None:
    fitting = [subscription("p", MAX_PATTERNS_OF_SATELLITE - 1), subscription("q", 1), Subscription("r", None)]
    assert bounded(fitting) == fitting
    assert bounded([]) == []


def test_the_package_with_the_most_patterns_gets_everything() -> None:
    small, large = subscription("p", 1), subscription("q", MAX_PATTERNS_OF_SATELLITE)
    found = bounded([small, large])
    assert found[0] == small
    assert (found[1].package, found[1].channels) == ("q", None)


def test_the_only_package_gets_everything_too() -> None:
    (found,) = bounded([subscription("p", MAX_PATTERNS_OF_SATELLITE + 1)])
    assert found.channels is None
