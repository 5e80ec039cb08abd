"""Two processes with one state folder are told from one that comes back."""

from co2.protocol.relay.takeovers import MAX_ORIGINS, MAX_TAKEOVERS, WITHIN, Takeovers


def test_a_run_that_comes_back_beside_another_is_a_clone() -> None:
    takeovers = Takeovers(lambda: 0.0)
    assert not takeovers.is_clone("ham", 1, 2)
    assert takeovers.is_clone("ham", 2, 1), "1 was displaced, and is alive"
    assert takeovers.is_clone("ham", 1, 2), "and so is 2, now and later"
    assert takeovers.count == 3
    assert not takeovers.is_clone("spam", 2, 1)


def test_a_process_that_takes_its_own_place_again_and_again_is_none() -> None:
    now = [0.0]
    takeovers = Takeovers(lambda: now[0])
    for _ in range(20):  # a bad cable
        now[0] += WITHIN / 20
        assert not takeovers.is_clone("ham", 1, 1)
    assert takeovers.count == 20, "they are takeovers all the same"


def test_one_that_is_started_again_and_again_is_none() -> None:
    now = [0.0]
    takeovers = Takeovers(lambda: now[0])
    for run in range(1, 20):
        now[0] += WITHIN / MAX_TAKEOVERS + 1
        assert not takeovers.is_clone("ham", run, run + 1)


def test_clones_in_turn_are_found_though_each_takes_its_own_place_in_between() -> None:
    now = [0.0]
    takeovers = Takeovers(lambda: now[0])
    for _ in range(10):
        now[0] += 1
        assert not takeovers.is_clone("ham", 1, 1)
    assert not takeovers.is_clone("ham", 1, 2)
    for _ in range(10):
        now[0] += 1
        assert not takeovers.is_clone("ham", 2, 2)
    assert takeovers.is_clone("ham", 2, 1)
    assert takeovers.is_clone("ham", 1, 2)


def test_many_runs_within_a_minute_are_though_none_of_them_came_back() -> None:
    takeovers = Takeovers(lambda: 0.0)
    found = [takeovers.is_clone("ham", run, run + 1) for run in range(1, MAX_TAKEOVERS + 2)]
    assert found == [False] * MAX_TAKEOVERS + [True]


def test_many_of_unknown_runs_within_a_minute_are() -> None:
    takeovers = Takeovers(lambda: 0.0)
    assert [takeovers.is_clone("ham", 0, 0) for _ in range(MAX_TAKEOVERS + 1)] == [False] * MAX_TAKEOVERS + [True]


def test_what_is_remembered_has_a_bound() -> None:
    takeovers = Takeovers(lambda: 0.0)
    for number in range(MAX_ORIGINS + 10):
        takeovers.is_clone(str(number), 1, 2)
    assert len(takeovers._rivals) == len(takeovers._times) == MAX_ORIGINS
    for run in range(1, 1000):
        takeovers.is_clone("ham", run, run + 1)
    assert len(takeovers._rivals["ham"]) <= 16


def test_a_clone_is_found_though_a_satellite_without_a_number_came_in_between() -> None:
    takeovers = Takeovers(lambda: 0.0)
    assert not takeovers.is_clone("ham", 1, 2)
    assert not takeovers.is_clone("ham", 2, 0)
    assert takeovers.is_clone("ham", 3, 1)
