"""The histories that the promise is written against, each told once, with every oracle listening."""

from tests.simulation.bugs import planted
from tests.simulation.faults import copy_tree
from tests.simulation.story import package, told


def test_a_resend_after_a_crash_that_followed_forwarding_is_dropped_by_whoever_had_it() -> None:
    with told("resend") as story:
        ham, spam = story.satellite(package("p")), story.satellite(package("p"))
        story.commits_take(1.0)
        story.send(ham, 5)
        story.go(0.1)
        ear = story.ear(spam)
        assert story.heard(ear, ham) == [0, 1, 2, 3, 4]  # passed on, and not on disk
        story.relay.end("kill", "lost")
        story.commits_take(0.004)
        story.relay.start()
        story.judge()
        assert spam.core.repeats == 5
        assert ear.total == 5
        assert sorted(story.history.values()) == [(ham.run.number, number) for number in range(5)]


def test_a_frame_cut_anew_is_shown_and_never_dropped_in_silence() -> None:
    with told("re-cut") as story, planted("frame cut anew when sent again"):
        story.may_reuse = True
        ham = story.satellite(package("p"))
        spam = story.satellite(package("p"))
        story.commits_take(1.0)
        story.send(ham, 2)
        story.send(ham, 2)
        story.go(0.1)
        story.net.cut(ham.name)
        story.go(1.0)
        assert [(origin, seq) for origin, _, seq in story.reused] == [("sat0", 1)]
        story.judge()
        assert len(story.heard(story.ear(spam, "p"), ham)) == 4


def test_a_lagging_package_does_not_hold_up_a_live_one_beside_it() -> None:
    with told("lagging", MAX_FROM_NETWORK=2048, WINDOW=1024, REPLAY_ROOM=2048) as story:
        ham = story.satellite(package("p"))
        spam = story.satellite(package("slow", cost=0.02), package("quick"))
        for _ in range(40):
            story.send(ham, 20)
            story.go(0.01)
        story.go(0.2)
        assert len(story.heard(story.ear(spam, "quick"), ham)) == 800
        assert len(story.heard(story.ear(spam, "slow"), ham)) < 200
        assert story.engine.counts["package falls behind"]
        story.judge()
        assert story.ear(spam, "slow").total == 800


def test_a_durable_receiver_goes_on_after_a_power_cut_of_its_relay() -> None:
    with told("power cut") as story:
        ham, spam = story.satellite(package("p")), story.satellite(package("d", durable=True))
        story.send(ham, 10)
        story.go(2.0)  # heard, and its place is written down
        spam.kill()
        story.send(ham, 10)
        story.go(1.0)
        assert ham.run.acked == 20
        story.relay.end("")
        story.go(1.0)
        story.relay.start()
        spam.start()
        story.judge()
        ear = story.ear(spam)
        assert (ear.total, story.heard(ear, ham), ear.gaps) == (20, list(range(20)), [])


def test_a_replaced_log_is_told_and_what_comes_after_arrives() -> None:
    with told("replaced log") as story:
        ham, spam = story.satellite(package("p")), story.satellite(package("p"), package("d", durable=True))
        story.send(ham, 10)
        story.go(2.0)
        story.relay.end("kill")
        story.relay.change_disk(story.copy_folder())
        story.truth.state_replaced()
        story.relay.start()
        story.send(ham, 10)
        story.judge()
        for ear in spam.ears:
            assert [gap.reasons for gap in ear.gaps] == [("log replaced",)]
            assert story.heard(ear, ham) == list(range(20))


def test_a_replaced_log_is_told_to_a_durable_package_that_loads_after_the_welcome() -> None:
    with told("replaced while it was away") as story:
        ham, spam = story.satellite(package("p")), story.satellite(package("d", durable=True))
        story.send(ham, 10)
        story.go(2.0)
        spam.kill()
        story.send(ham, 10)
        story.go(1.0)
        story.relay.end("kill")
        story.relay.change_disk(story.copy_folder())
        story.truth.state_replaced()
        story.relay.start()
        spam.start()
        story.go(3.0)
        story.send(ham, 10)
        story.judge()
        ear = story.ear(spam)
        assert [gap.reasons for gap in ear.gaps] == [("log replaced",)]
        assert story.heard(ear, ham) == [*range(10), *range(20, 30)]


def test_a_rolled_back_log_takes_another_id_and_tells_what_it_has_lost() -> None:
    with told("rolled back") as story:
        ham, spam = story.satellite(package("p")), story.satellite(package("d", durable=True))
        story.send(ham, 10)
        story.go(2.0)
        story.relay.end("kill")
        copy = story.copy_folder()
        copy_tree(story.relay.folder, copy)
        story.relay.start()
        story.go(1.0)
        story.send(ham, 10)
        story.go(2.0)
        log_id = story.relay.log.log_id
        late = story.add_satellite([package("d", durable=True)])
        story.relay.end("kill")
        story.relay.change_disk(copy)
        story.truth.state_replaced()
        story.relay.start()
        story.go(3.0)
        story.send(ham, 10)
        story.judge()
        assert story.relay.log.log_id != log_id
        reasons = [reason for gap in story.ear(spam).gaps for reason in gap.reasons]
        assert "log replaced" in reasons
        assert "the relay lost messages 11 to 20 of sat0@10.0.1.1:2004" in reasons
        assert story.heard(story.ear(late), ham)[-10:] == list(range(20, 30))


def test_an_older_copy_that_comes_back_after_another_log_tells_what_it_lacks() -> None:
    with told("older copy after another log") as story:
        ham, spam = story.satellite(package("p")), story.satellite(package("d", durable=True))
        story.send(ham, 10)
        story.go(2.0)
        story.relay.end("kill")
        older = story.copy_folder()
        copy_tree(story.relay.folder, older)
        story.relay.start()
        story.go(1.0)
        story.send(ham, 10)
        story.go(7.0)  # a receipt comes
        for folder in (story.copy_folder(), older):
            story.relay.end("kill")
            story.relay.change_disk(folder)
            story.truth.state_replaced()
            story.relay.start()
            story.go(3.0)
            story.send(ham, 10)
            story.go(3.0)
        story.judge()
        reasons = [reason for gap in story.ear(spam).gaps for reason in gap.reasons]
        assert reasons.count("log replaced") == 2
        assert "the relay lost messages 11 to 30 of sat0@10.0.1.1:2004" in reasons
        assert story.heard(story.ear(spam), ham) == list(range(40))


def test_what_is_acknowledged_while_the_state_folder_is_lost_is_in_doubt() -> None:
    """The relay had it, and its word was on the way: a satellite without receipts can prove nothing of it."""
    with told("late acknowledgement") as story:
        ham, _ = story.satellite(package("p")), story.satellite(package("p"))
        story.send(ham, 10)
        story.go(2.0)
        run = ham.run
        run.acked = 4
        story.relay.end("kill")
        story.relay.change_disk(story.copy_folder())
        story.truth.state_replaced()
        story.truth.acked(run.origin, run.epoch, 10)
        assert run.in_doubt == 10


def test_a_live_message_between_durable_ones_has_no_number_and_is_in_no_log() -> None:
    with told("live between") as story:
        ham, spam = story.satellite(package("p")), story.satellite(package("p"))
        story.send(ham, 2)
        story.send(ham, 1, live=True, channel="meter.1")
        story.send(ham, 2)
        story.go(0.5)
        ear = story.ear(spam)
        assert story.heard(ear, ham) == [-1, 0, 1, 2, 3]
        assert ham.outbox.last == 4
        story.relay.end("kill")
        story.relay.start()
        story.judge()
        assert ear.total == 5
        assert sorted(story.history.values()) == [(ham.run.number, number) for number in range(4)]


def test_a_drain_to_the_head_during_a_group_commit_gives_each_message_once() -> None:
    with told("drain to the head", KEPT=1, CHUNK=2048, STREAM_ROOM=2048) as story:
        ham, spam = story.satellite(package("p")), story.satellite(package("p"), package("d", durable=True))
        story.net.high = 2048
        end = story.net.links[spam.name][1]
        end.hold(story.engine.now + 2.0)  # it reads nothing for a while
        for _ in range(50):
            story.send(ham, 20)
            story.go(0.02)
        assert end.is_full
        story.commits_take(0.3)
        story.send(ham, 20)
        story.go(0.05)
        assert story.relay.log.committed < story.relay.log.last
        end.release()  # it reads on, while a commit is under way and more comes
        for _ in range(20):
            story.send(ham, 20)
            story.go(0.02)
        story.judge()
        for ear in spam.ears:
            assert (ear.total, story.heard(ear, ham)) == (1420, list(range(1420)))


def test_a_child_that_dies_at_message_300_of_512_goes_on_exactly_there() -> None:
    with told("300 of 512") as story:
        ham, spam = story.satellite(package("p")), story.satellite(package("p"))
        spam.packages["p"].die_after = 299
        story.send(ham, 512)
        story.judge()
        ear = story.ear(spam)
        assert ear.total == 513  # the 300th twice, the second time marked: the oracles see to that
        assert story.engine.counts["a message came again, marked"] == 1
        assert story.heard(ear, ham) == list(range(512))


def test_a_satellite_with_a_changed_port_is_who_it_was() -> None:
    with told("changed port") as story:
        ham, spam = story.satellite(package("p")), story.satellite(package("d", durable=True))
        story.send(ham, 10)
        story.go(2.0)
        spam.kill()
        spam.port = 2100
        story.send(ham, 10)
        spam.start()
        story.judge()
        assert str(spam.core.host_id) == "sat1@10.0.1.2:2100"
        ear = story.ear(spam)
        assert (ear.total, ear.gaps) == (20, [])


def test_a_restored_backup_uses_no_number_twice_and_loses_nothing_of_others() -> None:
    with told("restored backup") as story:
        ham, spam = story.satellite(package("p", durable=True)), story.satellite(package("p"))
        story.net.partitioned.add(ham.name)
        story.net.cut(ham.name)
        story.send(ham, 10)
        story.go(2.0)  # these wait on its disk
        copy = story.copy_folder()
        ham.keep_copy(copy)
        story.net.partitioned.clear()
        story.go(35.0)
        assert ham.run.acked == 10
        old = ham.run
        story.send(spam, 10)
        story.go(2.0)
        ham.kill()
        ham.restore(copy)
        ham.start()
        story.go(2.0)
        story.send(ham, 10)
        story.judge()
        assert story.reused == []
        ear = story.ear(spam)
        assert sorted(ear.ever[old.number]) == story.heard(ear, ham) == list(range(10))
        assert story.ear(ham).ever[spam.run.number] == set(range(10))


def test_two_clones_are_both_refused_and_the_one_that_stays_is_welcome_again() -> None:
    with told("two clones") as story:
        ham, spam = story.satellite(package("p")), story.satellite(package("p"))
        copy = story.copy_folder()
        ham.keep_copy(copy)
        clone = story.add_satellite(ham.plans, clone_of=ham, copy=copy)
        story.go(250.0)
        assert story.engine.counts["goodbye of the relay: taken-over"]
        assert story.engine.counts["goodbye of the relay: cloned"]
        clone.kill()
        story.send(ham, 10)
        story.go(70.0)
        story.judge()
        assert story.heard(story.ear(spam), ham) == list(range(10))
