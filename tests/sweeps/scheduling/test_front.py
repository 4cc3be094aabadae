from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.scheduling.front import MIN_RESULTS, FrontRule
from sweeps.scheduling.rules import CONTINUE, Decision, EarlyStopping, Verdict
from sweeps.scheduling.rungs import Candidate, Rungs


def study(*epochs: int, min_dominators: int = 1) -> EarlyStopping:
    """With a noise of 0.1 at the first rung, from eight large trials that are nobody's peers but each other's.

    All have equal settings: half the squared difference of two results of 0.9 +- 0.1 is 0.02 or 0. Of the 56 ordered
    pairs 32 differ: the mean is 0.02 * 32 / 56 = 0.0114, the noise 0.1069, the margin sqrt(2) times that: 0.1512.
    """
    stopping = EarlyStopping(epochs, FrontRule(min_dominators))
    for i in range(MIN_RESULTS):
        candidate = Candidate(f"large-{i}", (1e9, 1e9), (0.5,), is_protected=True)
        stopping.report(candidate, epochs[0], [0.9 + 0.1 * (-1) ** i])
    return stopping


def decide(stopping: EarlyStopping, name: str, costs: tuple[float, float], epoch: int, miss_rate: float) -> bool:
    """Whether a trial is stopped after an epoch."""
    verdict = stopping.report(Candidate(name, costs), epoch, [miss_rate])
    return verdict.decision is Decision.STOP


def test_noise_is_that_of_the_repetitions() -> None:
    stopping = study(1)
    rule = FrontRule()
    assert rule.noise(stopping.rungs, 1) == pytest.approx([np.sqrt(0.02 * 32 / 56)])


@pytest.mark.parametrize(
    ("costs", "miss_rate", "is_stopped"),
    [
        ((10.0, 10.0), 0.50 + 0.15, False),  # within the margin of 0.1512
        ((10.0, 10.0), 0.50 + 0.16, True),
        ((20.0, 10.0), 0.50 + 0.16, True),
        ((20.0, 9.0), 0.99, False),  # fewer FLOPs than the peer
        ((9.0, 20.0), 0.99, False),  # fewer parameters
        ((1.0, 1.0), 1.0, False),  # the small end of the front
        ((1e9, 1e9), 0.0, False),  # the accurate end
        ((10.0, 10.0), 0.50, False),  # equal in all
        ((10.0, 10.0), math.nan, True),
        ((10.0, 10.0), math.inf, True),
    ],
)
def test_trial_is_stopped_only_where_a_peer_is_better_beyond_noise(
    costs: tuple[float, float], miss_rate: float, is_stopped: bool
) -> None:
    stopping = study(1)
    assert not decide(stopping, "peer", (10.0, 10.0), 1, 0.5)
    assert decide(stopping, "trial", costs, 1, miss_rate) is is_stopped


def test_verdict_names_the_dominators() -> None:
    stopping = study(2, min_dominators=2)
    for name in ("a", "b"):
        stopping.report(Candidate(name, (1.0, 1.0)), 2, [0.3])
    verdict = stopping.report(Candidate("c", (1.0, 1.0)), 2, [0.6])
    assert verdict == Verdict(Decision.STOP, 2, ("a", "b"))


def test_enough_peers_must_dominate() -> None:
    stopping = study(1, min_dominators=2)
    assert not decide(stopping, "a", (1.0, 1.0), 1, 0.1)
    assert not decide(stopping, "b", (1.0, 1.0), 1, 0.6)
    assert not decide(stopping, "c", (0.5, 2.0), 1, 0.1)  # more FLOPs than d: not its peer
    assert not decide(stopping, "d", (1.0, 1.0), 1, 0.7)  # a dominates; b, within the noise, does not
    assert not decide(stopping, "e", (1.0, 1.0), 1, 0.1)
    assert decide(stopping, "f", (1.0, 1.0), 1, 0.7)


def test_first_arrival_is_compared_again_at_its_next_result() -> None:
    stopping = study(1, min_dominators=2)
    slow = Candidate("slow", (1.0, 1.0))
    assert stopping.report(slow, 1, [0.8]) == CONTINUE
    for name in ("a", "b"):
        assert not decide(stopping, name, (1.0, 1.0), 1, 0.2)
    # Not evaluated after epoch 2: its result at the rung is compared.
    assert stopping.report(slow, 2, None) == Verdict(Decision.STOP, 1, ("a", "b"))


def test_latest_common_rung_counts() -> None:
    stopping = study(1, 3)
    assert not decide(stopping, "late", (1.0, 1.0), 1, 0.8)
    assert not decide(stopping, "late", (1.0, 1.0), 3, 0.1)  # improves
    assert not decide(stopping, "early", (1.0, 1.0), 1, 0.2)
    # At rung 1 it is dominated, and at rung 3 it has no peer.
    assert decide(stopping, "late", (1.0, 1.0), 4, 0.1)
    assert not decide(stopping, "early", (1.0, 1.0), 3, 0.2)
    # Both reached rung 3, where it is on the front.
    assert not decide(stopping, "late", (1.0, 1.0), 5, 0.1)


def test_peers_stopped_at_an_early_rung_do_not_stop_a_trial_on_the_front_of_a_later_one() -> None:
    stopping = study(1, 3)
    assert not decide(stopping, "late", (1.0, 1.0), 1, 0.8)
    assert not decide(stopping, "late", (1.0, 1.0), 3, 0.1)
    assert not decide(stopping, "best", (1.0, 1.0), 1, 0.2)
    assert not decide(stopping, "best", (1.0, 1.0), 3, 0.15)
    assert decide(stopping, "stopped", (1.0, 1.0), 1, 0.5)  # by best
    # At rung 1, "stopped" was better than "late" and "best" better than both; at rung 3 "late" is level with "best".
    assert not decide(stopping, "late", (1.0, 1.0), 4, 0.1)


def test_peer_that_is_better_at_two_rungs_counts_once() -> None:
    stopping = study(1, 3, min_dominators=2)
    for epoch in (1, 3):
        assert not decide(stopping, "a", (1.0, 1.0), epoch, 0.1)
        assert not decide(stopping, "b", (1.0, 1.0), epoch, 0.6)


def test_peer_whose_later_result_is_not_a_number_does_not_count_at_earlier_rungs() -> None:
    stopping = study(1, 3)
    assert not decide(stopping, "trial", (1.0, 1.0), 1, 0.6)
    assert not decide(stopping, "trial", (1.0, 1.0), 3, 0.5)
    assert not decide(stopping, "diverging", (1.0, 1.0), 1, 0.1)
    assert decide(stopping, "trial", (1.0, 1.0), 4, 0.5)  # compared at rung 1, the latest that both reached
    decide(stopping, "diverging", (1.0, 1.0), 3, math.nan)
    assert not decide(stopping, "trial", (1.0, 1.0), 5, 0.5)


def test_noise_is_estimated_again_after_each_change_of_the_results() -> None:
    rungs, rule = Rungs([1]), FrontRule()
    for i in range(MIN_RESULTS):
        rungs.record(Candidate(f"trial-{i}", (), (0.5,)), 1, [0.5 + 0.1 * (-1) ** i])
    before = rule.noise(rungs, 1)
    # As many results as before.
    rungs.remove("trial-0")
    rungs.record(Candidate("trial-8", (), (0.5,)), 1, [0.9])
    after = rule.noise(rungs, 1)
    assert before is not None
    assert after is not None
    assert after > before
    # As in a session that resumes the study.
    np.testing.assert_array_equal(after, FrontRule().noise(rungs, 1))


def test_peer_that_failed_later_does_not_count() -> None:
    stopping = study(1)
    decide(stopping, "a", (1.0, 1.0), 1, 0.1)
    stopping.fail("a")
    assert not decide(stopping, "b", (1.0, 1.0), 1, 0.9)


def test_nan_dominates_nothing() -> None:
    stopping = study(1)
    assert not decide(stopping, "a", (1.0, 1.0), 1, math.nan)
    assert not decide(stopping, "b", (1.0, 1.0), 1, math.nan)
    assert not decide(stopping, "c", (1.0, 1.0), 1, 0.9)


def test_baseline_is_never_stopped_but_others_are_compared_with_it() -> None:
    stopping = study(1)
    baseline = Candidate("baseline-a", (1.0, 1.0), is_protected=True)
    assert stopping.report(baseline, 1, [0.3]) == CONTINUE
    assert stopping.report(Candidate("baseline-b", (1.0, 1.0), is_protected=True), 1, [0.9]) == CONTINUE
    assert decide(stopping, "trial", (1.0, 1.0), 1, 0.9)


def test_nothing_is_stopped_before_the_noise_is_known() -> None:
    stopping = EarlyStopping([1], FrontRule(min_dominators=1))
    for i in range(MIN_RESULTS - 2):
        candidate = Candidate(f"trial-{i}", (1.0, 1.0), (0.5,))
        assert stopping.report(candidate, 1, [0.5 + 0.01 * (-1) ** i]) == CONTINUE
    bad = Candidate("bad", (1.0, 1.0), (1.0,))
    assert stopping.report(bad, 1, [0.99]) == CONTINUE  # the seventh result
    # The eighth makes the noise known; the seventh is stopped after its next epoch.
    assert stopping.report(Candidate("last", (1.0, 1.0), (0.5,)), 1, [0.45]) == CONTINUE
    assert stopping.verdict("bad", 2).decision is Decision.STOP


def test_rung_with_few_results_uses_the_noise_of_the_earlier_rung() -> None:
    stopping = study(1, 3)
    rule = FrontRule()
    decide(stopping, "a", (1.0, 1.0), 3, 0.1)
    noise = rule.noise(stopping.rungs, 3)
    assert noise is not None
    assert noise.tolist() == pytest.approx(rule.noise(stopping.rungs, 1))


def test_one_objective_is_enough() -> None:
    stopping = EarlyStopping([1], FrontRule(min_dominators=1))
    for i in range(MIN_RESULTS):
        stopping.report(Candidate(f"trial-{i}", (), (0.5,)), 1, [0.5 + 0.01 * (-1) ** i])
    assert stopping.report(Candidate("bad", (), (0.5,)), 1, [0.9]).decision is Decision.STOP


def test_all_measured_objectives_must_be_worse_beyond_noise() -> None:
    stopping = EarlyStopping([1], FrontRule(min_dominators=1))
    for i in range(MIN_RESULTS):
        stopping.report(Candidate(f"trial-{i}", (1.0,), (0.5,)), 1, [0.5 + 0.01 * (-1) ** i, 0.7 + 0.01 * (-1) ** i])
    assert stopping.report(Candidate("a", (1.0,)), 1, [0.9, 0.7]) == CONTINUE
    assert stopping.report(Candidate("b", (1.0,)), 1, [0.9, 0.9]).decision is Decision.STOP


def test_order_of_arrival_does_not_matter_for_a_later_verdict() -> None:
    random = np.random.default_rng(3)
    results = [
        (Candidate(f"trial-{i:03d}", tuple(random.random(2)), tuple(random.integers(0, 3, 2) / 2)), random.random())
        for i in range(30)
    ]

    def verdicts(order: list[int]) -> list[Verdict]:
        rungs = Rungs([1])
        for i in order:
            rungs.record(results[i][0], 1, [results[i][1]])
        rule = FrontRule(min_dominators=2)
        # By name: dominators are listed in the order of their arrival.
        found = [rule(rungs, candidate.trial_id, 1) for candidate, _ in results]
        return [Verdict(each.decision, each.epoch, tuple(sorted(each.dominators))) for each in found]

    assert verdicts(list(range(30))) == verdicts(random.permutation(30).tolist())


points = st.tuples(
    st.sampled_from([0.1, 0.2, 0.5, 0.8, math.nan]), st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from([1.0, 2.0, 3.0])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(points, max_size=25), st.integers(1, 3))
def test_front_of_a_rung_always_continues(results: list[tuple[float, float, float]], min_dominators: int) -> None:
    """Of every trial that was stopped, a better one that cost no more continued."""
    stopping = study(1, min_dominators=min_dominators)
    continued: dict[str, tuple[float, float, float]] = {}
    stopped = []
    for i, (miss_rate, *costs) in enumerate(results):
        name = f"trial-{i}"
        if decide(stopping, name, (costs[0], costs[1]), 1, miss_rate):
            stopped.append((miss_rate, *costs))
        else:
            continued[name] = (miss_rate, costs[0], costs[1])
    rejected = [name for name in continued if stopping.verdict(name, 2).decision is Decision.STOP]
    stopped += [continued.pop(name) for name in rejected]
    for miss_rate, *costs in stopped:
        assert any(
            other[0] < (math.inf if math.isnan(miss_rate) else miss_rate)
            and other[1] <= costs[0]
            and other[2] <= costs[1]
            for other in continued.values()
        )
