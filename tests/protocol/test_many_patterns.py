"""More channel patterns on one satellite than one reader may have: it gets all messages, and filters."""

import pytest

from tests.protocol.network import Network


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("packages", [1, 3])
def test_a_satellite_with_hundreds_of_patterns_is_linked_and_gets_what_it_wants(
    packages: int, durable: bool
) -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam")
    for package in range(packages):
        patterns = [f"p{package}.c{number}" for number in range(300 // packages)]
        spam.core.subscribe(f"b{package}", patterns, durable=durable)
    net.run()
    for round_ in range(2):  # as an Interest, and in a Hello
        ham.send(round_, channels=("p0.c1",))
        ham.send("unwanted", channels=("elsewhere",))
        net.run()
        assert {ended.reason for ended in spam.ended} <= {""}  # cut, never refused
        net.cut(spam)
        net.connect(spam)
    assert spam.got["b0"] in ([0, 1], [0, "unwanted", 1, "unwanted"])  # a plugin host looks at each message
    if packages > 1:
        assert spam.got == {"b0": [0, 1]}
