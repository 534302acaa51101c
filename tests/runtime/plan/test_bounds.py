"""Bounds worked out by hand. Times in the small examples are plain ticks."""

import random
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haihe.runtime.plan.bounds import analyse
from haihe.runtime.plan.busy import UNBOUNDED, Load, arrivals, earliest, priority_slots
from haihe.runtime.plan.timing import (
    Bounds,
    ChainBound,
    LaneTiming,
    SourceTiming,
    Term,
    ThreadTiming,
    Timing,
)

US = 1_000
MS = 1_000_000
FRAME = 33_333_333


def lane(name: str, worst: int, best: int | None = None, **more: object) -> LaneTiming:
    """A lane that takes `worst`, or from `best` to it."""
    best = worst if best is None else best
    return msgspec.convert({"name": name, "worst_ns": worst, "best_ns": best, **more}, LaneTiming)


def periodic(name: str, worst: int, period: int, **more: object) -> LaneTiming:
    """A periodic lane."""
    return lane(name, worst, None, period_ns=period, **more)


def thread(*lanes: str, policy: str = "priority", **more: object) -> ThreadTiming:
    """A thread, named after its lanes."""
    name = "+".join(lanes)
    fields = {"name": name, "lanes": lanes, "policy": policy, **more}
    return msgspec.convert(fields, ThreadTiming)


def source(name: str, period: int, low: int = 0, high: int = 0) -> SourceTiming:
    """A source of one period."""
    return SourceTiming(name, period, period, low, high)


def responses(bounds: Bounds) -> dict[str, int | None]:
    """The response times."""
    return {name: bound.response_ns for name, bound in bounds.lanes.items()}


def chain_of(bounds: Bounds, lane_name: str, of: str) -> ChainBound:
    """A chain; its terms always sum to its oldest age."""
    chain = bounds.chains[lane_name, of]
    if chain.oldest_ns is not None:
        assert sum(term.ns for term in chain.terms) == chain.oldest_ns
    assert bounds.published[lane_name, of] == chain.oldest_ns
    return chain


def follow(face: int = 27 * MS, **control: object) -> Timing:
    """Camera, detector, and a servo's tick, each on a thread of its own."""
    neck = periodic("neck", 1_900 * US, 20 * MS, reads=("face",), is_actuator=True)
    neck = msgspec.structs.replace(neck, best_ns=1_500 * US, **control)
    return Timing(
        (source("front", FRAME, 18 * MS, 26 * MS),),
        (lane("face", face, 22 * MS, trigger="front"), neck),
        (thread("face"), thread("neck")),
    )


def test_arrivals_of_a_source_with_jitter() -> None:
    # Period 10, up to 4 late: the 2nd no earlier than 6 after the 1st, the 3rd 16.
    load = Load(1, 10, 4, 6)
    assert [earliest(load, q) for q in (1, 2, 3)] == [0, 6, 16]
    assert [arrivals(load, w) for w in (0, 1, 6, 7, 16, 17)] == [0, 1, 1, 2, 2, 3]


def test_a_single_fused_lane() -> None:
    plan = Timing(
        (source("imu", 5, 1, 2),),
        (periodic("tick", 3, 10, reads=("imu",), is_actuator=True),),
        (thread("tick"),),
    )
    bounds = analyse(plan)
    assert responses(bounds) == {"tick": 3}
    assert bounds.lanes["tick"].load == 0.3
    chain = chain_of(bounds, "tick", "imu")
    assert chain.fresh_ns == 5 + 2
    assert chain.sent_ns == 5 + 2 + 3
    assert chain.oldest_ns == 5 + 2 + 10 + 3
    assert chain.path == ("imu", "tick")
    assert chain.terms == (
        Term("frame", "imu", 5),
        Term("delivery", "imu", 2),
        Term("gap", "tick", 10),
        Term("response", "tick", 3),
    )
    assert bounds.published["imu", "imu"] == 7


def test_late_timer_is_release_jitter() -> None:
    # Released up to 2 late: from any time 10 + 2 to the next release. A release is skipped if the
    # job before may take until it: 2 + 9 > 10, so the gap is two periods and 2.
    for worst, gap in ((3, 12), (9, 22)):
        tick = periodic("tick", worst, 10, late_ns=2, reads=("imu",))
        bounds = analyse(Timing((source("imu", 5),), (tick,), (thread("tick"),)))
        terms = chain_of(bounds, "tick", "imu").terms
        assert terms[2:] == (Term("gap", "tick", gap), Term("response", "tick", worst))


def test_priorities_with_blocking() -> None:
    # a (2 of 10) is blocked by c for 5 - 1 = 4: 4 + 2 = 6.
    # b (3 of 20): 4 + 2 (a) = 6, a again at 10 > 6: finish 9.
    # c (5 of 50): a and b first, 2 + 3 = 5, finish 10; a comes at 10, not after its start at 5.
    lanes = (periodic("a", 2, 10), periodic("b", 3, 20), periodic("c", 5, 50))
    bounds = analyse(Timing((), lanes, (thread("a", "b", "c"),)))
    assert responses(bounds) == {"a": 6, "b": 9, "c": 10}


def test_more_urgent_work_at_the_tick_of_the_start_goes_first() -> None:
    # a takes 4 of 4: nothing is left for b. 4 of 5: b starts at 4 and finishes at 7.
    for period, bound in ((4, None), (5, 7)):
        lanes = (periodic("a", 4, period), periodic("b", 3, 100))
        bounds = analyse(Timing((), lanes, (thread("a", "b"),)))
        assert bounds.lanes["b"].response_ns == bound
    # a and d take until 6, when a comes again: it goes first, until 9, then b.
    three = (periodic("a", 3, 6), periodic("d", 3, 100), periodic("b", 1, 100))
    bounds = analyse(Timing((), three, (thread("a", "d", "b"),)))
    assert bounds.lanes["b"].response_ns == 6 + 3 + 1


def test_every_job_of_the_window_counts_not_the_first_alone() -> None:
    # The example that refuted the CAN analysis (Davis et al. 2007, table 3), in units of 0.1 ms:
    # three frames of 10; periods 25, 35, 35; the third lane's second job is the worst.
    # q = 1: 10 + 10 and start 20, finish 30. q = 2: 10 own + a 3 x 10 + b 2 x 10 = 60 > 50:
    # start 60, finish 70, arrived 35: 35.
    lanes = (periodic("a", 10, 25), periodic("b", 10, 35), periodic("c", 10, 35))
    bounds = analyse(Timing((), lanes, (thread("a", "b", "c"),)))
    assert bounds.lanes["c"].response_ns == 35


def test_fifo_thread() -> None:
    # All three arrive together: 2 + 3 + 5 = 10, for each; later offsets wait less.
    lanes = (periodic("a", 2, 20), periodic("b", 3, 20), periodic("c", 5, 50))
    bounds = analyse(Timing((), lanes, (thread("a", "b", "c", policy="fifo"),)))
    assert responses(bounds) == {"a": 10, "b": 10, "c": 10}


def test_overloaded_slot_has_a_finite_response() -> None:
    # 7 every 5: while a job runs, one waits: 7 - 1 + 7. On a FIFO thread with b (3): 7 + 3 + 6.
    camera = (source("camera", 5),)
    detect = lane("detect", 7, trigger="camera")
    alone = analyse(Timing(camera, (detect,), (thread("detect"),)))
    assert responses(alone) == {"detect": 13}
    assert chain_of(alone, "detect", "camera").oldest_ns == 5 + 13
    assert alone.lanes["detect"].load == pytest.approx(1.4)
    lanes = (detect, periodic("b", 3, 100))
    shared = analyse(Timing(camera, lanes, (thread("detect", "b", policy="fifo"),)))
    assert responses(shared) == {"detect": 16, "b": 16}


def test_starved_lane_names_its_starver() -> None:
    lanes = (lane("detect", 7, trigger="camera"), periodic("track", 1, 50, reads=("detect",)))
    plan = Timing((source("camera", 5),), lanes, (thread("detect", "track"),))
    bounds = analyse(plan)
    assert bounds.lanes["track"].response_ns is None
    assert bounds.lanes["track"].starved_by == "detect"
    chain = chain_of(bounds, "track", "camera")
    assert (chain.oldest_ns, chain.terms) == (None, ())
    assert chain.problem == "track is starved by detect"


def test_shared_core() -> None:
    # low computes 5, and high takes 2 at 0 and 2 at 6: 5 + 2 = 7 > 6: 5 + 4 = 9.
    lanes = (periodic("high", 2, 6), periodic("low", 5, 50))
    threads = (thread("high", core="4", rank=2), thread("low", core="4", rank=1))
    bounds = analyse(Timing((), lanes, threads))
    assert responses(bounds) == {"high": 2, "low": 9}
    assert bounds.lanes["low"].elapsed_ns == 9
    apart = (thread("high", core="4", rank=2), thread("low", core="5", rank=1))
    assert responses(analyse(Timing((), lanes, apart)))["low"] == 5


def test_thread_of_a_more_urgent_core_mate_is_named_when_it_starves() -> None:
    lanes = (periodic("high", 6, 6), periodic("low", 5, 50, reads=("camera",)))
    threads = (thread("high", core="4", rank=2), thread("low", core="4", rank=1))
    bounds = analyse(Timing((source("camera", 7),), lanes, threads))
    assert bounds.lanes["low"].starved_by == "high"
    assert chain_of(bounds, "low", "camera").problem == "low is starved by high"


def test_a_blocker_dispatched_while_its_core_is_taken_has_done_nothing_yet() -> None:
    # high 0-5; slow is dispatched at 4 and cannot compute; fast arrives at 5: slow 5-10,
    # high 10-15, fast 15-16: a response of 11. "5 - 1 of blocking" alone gives 10.
    lanes = (periodic("high", 5, 10), periodic("fast", 1, 100), periodic("slow", 5, 100))
    threads = (thread("high", core="4", rank=2), thread("fast", "slow", core="4", rank=1))
    # 4 + 1 + high in a window of F + 1: 10, 11 -> 2 jobs: 15, 16 -> 2 jobs: 15.
    assert responses(analyse(Timing((), lanes, threads)))["fast"] == 15


def test_interpreter_shared_by_two_threads() -> None:
    # face needs it for 1.8 ms of a job, neck for 0.7: each waits at most once for the other's.
    plan = follow()
    held = {"face": 1_800 * US, "neck": 700 * US}
    lanes = tuple(msgspec.structs.replace(x, held_ns=held[x.name]) for x in plan.lanes)
    threads = tuple(msgspec.structs.replace(x, process="app") for x in plan.threads)
    bounds = analyse(Timing(plan.sources, lanes, threads))
    assert bounds.lanes["neck"].response_ns == 1_900 * US + 1_800 * US
    assert bounds.lanes["face"].elapsed_ns == 27 * MS + 700 * US
    chain = chain_of(bounds, "neck", "front")
    assert chain.sent_ns == FRAME + 26 * MS + 27_700 * US + 3_700 * US
    apart = analyse(Timing(plan.sources, lanes, plan.threads))
    assert apart.lanes["neck"].response_ns == 1_900 * US


def test_backlog_of_an_ordered_edge() -> None:
    # Messages 2 long arrive every 10; slow (25 of 100) blocks for 24. Jobs start at 24, 26, 28
    # and messages arrive at 0, 10, 20, 30: at 24 three wait.
    lanes = (lane("log", 2, trigger="imu", fifo=3), periodic("slow", 25, 100))
    plan = Timing((source("imu", 10),), lanes, (thread("log", "slow"),))
    bounds = analyse(plan)
    assert bounds.lanes["log"].backlog == 3
    assert bounds.lanes["slow"].backlog is None
    assert bounds.lanes["log"].response_ns == 26
    chain = chain_of(bounds, "log", "imu")
    assert (chain.fresh_ns, chain.sent_ns, chain.oldest_ns) == (24, 26, 36)
    small = msgspec.structs.replace(lanes[0], fifo=2)
    bounds = analyse(Timing(plan.sources, (small, lanes[1]), plan.threads))
    chain = chain_of(bounds, "log", "imu")
    assert chain.oldest_ns is None
    assert chain.problem == "log refuses messages: its fifo(2) needs 3 places"


def test_ordered_edge_that_never_catches_up() -> None:
    plan = Timing((source("imu", 10),), (lane("log", 11, trigger="imu", fifo=4),), (thread("log"),))
    bounds = analyse(plan)
    # Four wait, the last of them behind three and the one that runs: 4 x 11 + 10.
    assert bounds.lanes["log"].response_ns == 54
    assert bounds.lanes["log"].backlog is None
    problem = "log refuses messages: its fifo(4) never catches up"
    assert chain_of(bounds, "log", "imu").problem == problem


def test_chain_of_triggers_counts_from_the_root() -> None:
    # camera every 100, 10-30 late. detect 20-40: latest 30 + 40 = 70, publishes from 10 + 20 on:
    # track's messages have a jitter of 40; alone its response is 5, all from the frame's grid.
    plan = Timing(
        (source("camera", 100, 10, 30),),
        (lane("detect", 40, 20, trigger="camera"), lane("track", 5, trigger="detect")),
        (thread("detect"), thread("track")),
    )
    bounds = analyse(plan)
    chain = chain_of(bounds, "track", "camera")
    assert chain.path == ("camera", "detect", "track")
    assert chain.oldest_ns == 100 + 30 + 40 + 5
    assert chain.fresh_ns == 30 + 40  # of this frame's message: it is read as it comes
    assert chain.sent_ns == 30 + 40 + 5


def test_triggered_lane_samples_another_source() -> None:
    # detect samples the map when a frame comes: at most 100 + (30 - 10) after any time.
    plan = Timing(
        (source("camera", 100, 10, 30), source("map", 1000, 0, 7)),
        (lane("detect", 40, 20, trigger="camera", reads=("map",)),),
        (thread("detect"),),
    )
    chain = chain_of(analyse(plan), "detect", "map")
    assert chain.terms == (
        Term("frame", "map", 1000),
        Term("delivery", "map", 7),
        Term("gap", "detect", 120),
        Term("response", "detect", 40),
    )


def test_reader_on_the_writers_thread_does_not_overtake() -> None:
    # filter is the more urgent: act, released after it, starts after its finish, so filter's
    # response is no term: 5 + (10) + (20) + R(act) = 2 + 3. The other way round it is.
    def oldest(*order: str) -> tuple[Term, ...]:
        lanes = (
            periodic("filter", 2, 10, reads=("imu",)),
            periodic("act", 3, 20, reads=("filter",)),
        )
        plan = Timing((source("imu", 5),), lanes, (thread(*order),))
        return chain_of(analyse(plan), "act", "imu").terms[1:]

    first = [("imu", 0), ("filter", 10)]
    behind = [(term.subject, term.ns) for term in oldest("filter", "act")]
    assert behind == [*first, ("act", 20), ("act", 5)]
    ahead = [(term.subject, term.ns) for term in oldest("act", "filter")]
    assert ahead == [*first, ("filter", 5), ("act", 20), ("act", 4)]


def test_time_after_publication_is_not_in_what_is_sent() -> None:
    chain = chain_of(analyse(follow(after_ns=300 * US, after_best_ns=200 * US)), "neck", "front")
    plain = chain_of(analyse(follow()), "neck", "front")
    assert plain.sent_ns is not None
    assert chain.sent_ns == plain.sent_ns - 200 * US
    assert chain.oldest_ns == plain.oldest_ns


def test_publication_is_a_tick_after_the_start_at_the_earliest() -> None:
    tick = periodic("tick", 3, 10, after_ns=3, after_best_ns=3, reads=("imu",))
    chain = chain_of(
        analyse(Timing((source("imu", 5),), (tick,), (thread("tick"),))), "tick", "imu"
    )
    assert (chain.fresh_ns, chain.sent_ns) == (5, 5 + 1)


def test_a_reader_behind_a_writer_that_refuses_has_no_age() -> None:
    lanes = (
        lane("log", 10, trigger="imu", fifo=2),
        periodic("slow", 72, 35, reads=("log",)),
    )
    bounds = analyse(Timing((source("imu", 24),), lanes, (thread("log", "slow", policy="fifo"),)))
    # Two and one wait, and one runs: 2 x 10 + 72 + 9.
    assert responses(bounds) == {"log": 101, "slow": 101}
    assert chain_of(bounds, "slow", "imu").oldest_ns is None
    problem = "log refuses messages: its fifo(2) never catches up"
    assert chain_of(bounds, "slow", "imu").problem == problem


def test_follow_in_two_processes() -> None:
    bounds = analyse(follow())
    # face: two jobs in a row, the second 33.3 - 8 after the first: 54 - 25.3 = 28.7.
    assert responses(bounds) == {"face": 54 * MS - (FRAME - 8 * MS), "neck": 1_900 * US}
    chain = chain_of(bounds, "neck", "front")
    assert chain.fresh_ns == FRAME + 26 * MS + 27 * MS  # 86.3 ms
    assert chain.sent_ns == chain.fresh_ns + 1_900 * US  # 88.2 ms
    assert chain.terms == (
        Term("frame", "front", FRAME),
        Term("delivery", "front", 26 * MS),
        Term("response", "face", 27 * MS),
        Term("gap", "neck", 20 * MS),
        Term("response", "neck", 1_900 * US),
    )
    assert chain.oldest_ns == 108_233_333


def test_follow_has_a_cliff_at_the_frame() -> None:
    def sent(face: int) -> int | None:
        return chain_of(analyse(follow(face)), "neck", "front").sent_ns

    assert sent(33 * MS) == FRAME + 26 * MS + 33 * MS + 1_900 * US  # 94.2 ms
    assert sent(34 * MS) == FRAME + 26 * MS + 68 * MS - 1 + 1_900 * US  # 129.2 ms
    assert sent(40 * MS) == FRAME + 26 * MS + 80 * MS - 1 + 1_900 * US  # 141.2 ms


def test_a_previous_job_without_a_bound_leaves_none_in_overload() -> None:
    # 999 of 1000 are taken: the 1999 that its previous job may still run take 1999 periods more,
    # which is above the limit of steps; nothing is subtracted from what has no bound.
    own = Load(cost=2_000, period=10**6, jitter=0, distance=0, is_periodic=True)
    assert priority_slots(own, [Load(999, 1_000, 0, 1_000)], []) == UNBOUNDED


def test_loop_of_samples_has_responses_but_no_ages() -> None:
    lanes = (
        periodic("a", 1, 10, reads=("imu", "b")),
        periodic("b", 1, 20, reads=("a",)),
        periodic("out", 1, 20, reads=("b",)),
    )
    plan = Timing((source("imu", 5),), lanes, (thread("a"), thread("b"), thread("out")))
    bounds = analyse(plan)
    assert responses(bounds) == {"a": 1, "b": 1, "out": 1}
    for name in ("a", "b", "out"):
        chain = chain_of(bounds, name, "imu")
        assert (chain.fresh_ns, chain.sent_ns, chain.oldest_ns) == (None, None, None)
        assert chain.problem == "loop: a -> b -> a"


def test_chain_through_a_thread_it_comes_back_to_settles() -> None:
    # a -> b -> c with a and c on one thread: c's jitter depends on a's response, and back.
    lanes = (
        lane("a", 3, 1, trigger="camera"),
        lane("b", 3, 1, trigger="a"),
        lane("c", 3, 1, trigger="b"),
    )
    plan = Timing((source("camera", 20, 0, 5),), lanes, (thread("c", "a"), thread("b")))
    bounds = analyse(plan)
    # a: c first (at most once in 3 + 1): 6. b: 3. c: blocked by a for 2, then 3: 5.
    assert responses(bounds) == {"a": 6, "b": 3, "c": 5}
    assert chain_of(bounds, "c", "camera").oldest_ns == 20 + 5 + 6 + 3 + 5


COSTS = st.integers(1, 30)


@given(st.lists(st.tuples(COSTS, st.integers(20, 200)), min_size=1, max_size=5), COSTS)
@settings(max_examples=80, deadline=None)
def test_more_work_of_the_most_urgent_lane_never_lowers_a_response(
    specs: list[tuple[int, int]], more: int
) -> None:
    lanes = tuple(periodic(f"n{i}", *spec) for i, spec in enumerate(specs))
    names = [each.name for each in lanes]
    before = responses(analyse(Timing((), lanes, (thread(*names),))))
    extra = periodic("extra", more, 100)
    after = responses(analyse(Timing((), (extra, *lanes), (thread("extra", *names),))))
    for name in names:
        was, now = before[name], after[name]
        assert now is None or (was is not None and now >= was)


@given(COSTS, st.integers(30, 200), st.integers(1, 300), st.integers(0, 20), st.integers(2, 50))
@settings(max_examples=50, deadline=None)
def test_a_single_lane_scales_with_its_times(
    worst: int, period: int, frame: int, late: int, factor: int
) -> None:
    def oldest(k: int) -> int | None:
        tick = periodic("tick", worst * k, period * k, late_ns=late * k, reads=("imu",))
        plan = Timing((source("imu", frame * k, 0, late * k),), (tick,), (thread("tick"),))
        return chain_of(analyse(plan), "tick", "imu").oldest_ns

    one = oldest(1)
    assert one is not None
    assert oldest(factor) == one * factor


def random_plan(seed: int, size: int, threads: int, policy: str, load: float) -> Timing:
    """Lanes in layers, half of them triggered, spread over threads; rate-monotonic order."""
    rng = random.Random(seed)
    sources = (
        SourceTiming("front", FRAME, FRAME + 9 * US, 5 * MS, 9 * MS),
        source("scan", 20 * MS, MS, 3 * MS),
    )
    periods = {"front": FRAME, "scan": 20 * MS}
    lanes: list[LaneTiming] = []
    for at in range(size):
        name = f"n{at}"
        before = [*periods][-20:]
        trigger = rng.choice(before) if rng.random() < 0.5 else ""
        periods[name] = periods[trigger] if trigger else rng.choice([5, 10, 20, 50]) * MS
        worst = int(periods[name] * load * threads / size * rng.uniform(0.5, 1.5))
        reads = tuple({*rng.choices(before, k=2)} - {trigger})
        when = {"trigger": trigger} if trigger else {"period_ns": periods[name]}
        lanes.append(lane(name, worst, worst // 2, reads=sorted(reads), **when))
    groups = [[f"n{at}" for at in range(size) if at % threads == k] for k in range(threads)]
    for group in groups:
        group.sort(key=lambda name: periods[name])
    return Timing(sources, tuple(lanes), tuple(thread(*group, policy=policy) for group in groups))


@given(st.integers(0, 10**6), st.sampled_from(["priority", "fifo"]), st.floats(0.2, 1.4))
@settings(max_examples=60, deadline=None)
def test_ages_are_ordered_and_sum_up(seed: int, policy: str, load: float) -> None:
    plan = random_plan(seed, 12, 3, policy, load)
    bounds = analyse(plan)
    for lane_name, of in bounds.chains:
        chain = chain_of(bounds, lane_name, of)
        if chain.oldest_ns is None:
            assert chain.problem
            continue
        assert chain.path[0] == of
        assert chain.path[-1] == lane_name
        assert chain.fresh_ns is not None
        assert chain.sent_ns is not None
        assert chain.fresh_ns < chain.sent_ns


@pytest.mark.parametrize("policy", ["priority", "fifo"])
@pytest.mark.parametrize("threads", [8, 30])
def test_three_hundred_lanes(policy: str, threads: int) -> None:
    plan = random_plan(1, 300, threads, policy, 0.6)
    begun = time.perf_counter()
    bounds = analyse(plan)
    print(f"300 lanes, {threads} threads, {policy}: {time.perf_counter() - begun:.2f} s")
    assert bounds.sweeps <= 12
    assert None not in responses(bounds).values()
    assert all(chain.oldest_ns is not None for chain in bounds.chains.values())
