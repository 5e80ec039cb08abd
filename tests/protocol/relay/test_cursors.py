"""What a reader of the log is sent, seen from the link: satellites filter again, and would not show it."""

from tests.protocol.network import Network


def test_a_live_reader_with_patterns_is_sent_what_it_wants_and_nothing_else() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b", channels=["stage.*"])
    ham.send(1, channels=("stage.left",))
    ham.send("unwanted", channels=("lab",))
    net.run()
    assert spam.got == {"b": [1]}
    assert net.relay.peers["spam"].delivered == 1


def test_a_durable_package_that_is_gone_is_sent_nothing_more_and_others_go_on() -> None:
    net = Network()
    ham, spam = net.satellite("ham"), net.satellite("spam", "b", "c", durable=True)
    ham.send(1)
    net.run()
    spam.core.unsubscribe("b")
    net.run()
    before = net.relay.peers["spam"].delivered
    ham.send(2)
    net.run()
    assert spam.got == {"b": [1], "c": [1, 2]}
    assert net.relay.peers["spam"].delivered == before + 1
