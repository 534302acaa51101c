"""The judge judged: schedules worked out by hand."""

from typing import Any

from tests.runtime.plan.scheduling.model import (
    KINDS,
)
from tests.runtime.plan.scheduling.script import Script

from haihe.runtime.plan.timing import LaneTiming, SourceTiming, ThreadTiming, Timing


def lane(name: str, worst: int, **more: Any) -> LaneTiming:
    return LaneTiming(name, worst_ns=worst, best_ns=more.pop("best", worst), **more)


def jobs(timing: Timing, **script: Any) -> dict[str, list[tuple[int, ...]]]:
    """(arrival, start, finish) of the jobs of each lane."""
    outcome = Script(**script).play(timing)
    return {
        lane.name: [tuple(row) for row in outcome.log[at, : outcome.jobs[at]].tolist()]
        for at, lane in enumerate(timing.lanes)
    }


def worst(timing: Timing, node: int, **script: Any) -> dict[str, list[int]]:
    """The worst of every kind at a node, per source."""
    value = Script(**script).play(timing).value
    return {kind: value[at, node].tolist() for at, kind in enumerate(KINDS)}


def one_thread(*lanes: LaneTiming, policy: Any = "priority", sources: Any = ()) -> Timing:
    thread = ThreadTiming("t", tuple(x.name for x in lanes), policy)
    return Timing(tuple(sources), lanes, (thread,))


def test_a_pipeline_and_its_ages():
    # captures 0, 10, 20, 30; delivered 4 later; vision 4-7, 14-17, 24-27; control 5, 17, 29
    timing = Timing(
        (SourceTiming("camera", 10, 10, 4, 4),),
        (lane("vision", 3, trigger="camera"), lane("control", 2, period_ns=12, reads=("vision",))),
        (ThreadTiming("a", ("vision",)), ThreadTiming("b", ("control",))),
    )
    script = {"horizon_ns": 35, "phases": {"control": 5}}
    assert jobs(timing, **script) == {
        "vision": [(4, 4, 7), (14, 14, 17), (24, 24, 27)],
        "control": [(5, 5, 7), (17, 17, 19), (29, 29, 31)],
    }
    # the first control job has read nothing; at 17 it reads what is published at 17: capture 10;
    # it acts on that from 19 on; the job of 29 has read capture 20
    assert worst(timing, 2, **script) == {
        "response": [2],
        "elapsed": [2],
        "backlog": [-1],
        "fresh": [9],
        "sent": [11],
        "oldest": [21],
        "published": [21],
    }
    # at 35 the newest of vision is of capture 20, at 27 it was of capture 10
    assert worst(timing, 1, **script)["published"] == [17]
    assert worst(timing, 0, **script)["published"] == [14]


def test_at_one_instant_completion_then_delivery_then_release_then_dispatch():
    # at 6: `busy` completes, the camera delivers, `tick` is released: the dispatch sees all
    timing = one_thread(
        lane("busy", 6, period_ns=100),
        lane("tick", 1, period_ns=50, reads=("camera",)),
        lane("see", 2, trigger="camera"),
        sources=[SourceTiming("camera", 40, 40, 1, 1)],
    )
    script = {"horizon_ns": 30, "phases": {"camera": 5, "tick": 6}}
    assert jobs(timing, **script) == {
        "busy": [(0, 0, 6)],
        "tick": [(6, 6, 7)],
        "see": [(6, 7, 9)],
    }
    assert worst(timing, 2, **script)["fresh"] == [1]


def test_a_release_is_skipped_while_the_job_is_pending_or_running():
    # slow runs 0-25: releases at 10 and 20 are skipped, 30 is not; its finish at 60 lets 60 in
    timing = one_thread(lane("slow", 25, best=1, period_ns=10))
    script = {"horizon_ns": 70, "execution": {"slow": [25, 30, 4]}}
    assert jobs(timing, **script)["slow"] == [(0, 0, 25), (30, 30, 60), (60, 60, 64)]
    # pending from 0 to 25 behind an urgent one
    timing = one_thread(lane("urgent", 25, period_ns=100), lane("fast", 2, period_ns=10))
    assert jobs(timing, horizon_ns=35)["fast"] == [(0, 25, 27), (30, 30, 32)]


def test_lateness_moves_a_release_and_not_the_grid():
    timing = one_thread(lane("tick", 2, period_ns=10, late_ns=4))
    script = {"horizon_ns": 35, "late": {"tick": [4, 0, 3, 1]}}
    assert jobs(timing, **script)["tick"] == [(4, 4, 6), (10, 10, 12), (23, 23, 25), (31, 31, 33)]


def test_an_arrival_replaces_the_pending_message():
    # deliveries at 0, 4, 8, 12; see runs 0-7; of 4 and 8 ... 4 is pending at 7, so 7-14; then the
    # arrival of 8 waits from 8, replaced at 12, and is read at 14: the capture of 12
    timing = one_thread(lane("see", 7, trigger="camera"), sources=[SourceTiming("camera", 4, 4)])
    assert jobs(timing, horizon_ns=22)["see"] == [(0, 0, 7), (4, 7, 14), (8, 14, 21)]
    found = worst(timing, 1, horizon_ns=22)
    assert found["response"] == [13]
    assert found["fresh"] == [3]  # 4 at 7
    assert found["sent"] == [10]
    assert found["oldest"] == [17]  # 4 till 21


def test_fifo_runs_a_job_per_message_and_refuses_when_n_wait():
    # arrivals 0, 4, 8, 12, 16; runs 0-9, 9-18, 18-27: at 8 two wait; 12 and 16 are refused
    # (4 leaves the queue at 9, then 8 waits alone: 12 is taken; 16 is refused)
    timing = one_thread(
        lane("see", 9, trigger="camera", fifo=2), sources=[SourceTiming("camera", 4, 4)]
    )
    assert jobs(timing, horizon_ns=45)["see"] == [
        (0, 0, 9),
        (4, 9, 18),
        (8, 18, 27),
        (12, 27, 36),
        (20, 36, 45),
    ]
    found = worst(timing, 1, horizon_ns=45)
    assert found["backlog"] == [3]  # the refused one would be the third
    assert found["fresh"] == [17]  # 28 at 45
    assert found["oldest"] == [33]  # 12 till 45


def test_a_lane_with_a_queue_is_held_back_while_the_queue_that_it_feeds_is_full():
    timing = Timing(
        (SourceTiming("camera", 5, 5),),
        (
            lane("first", 2, trigger="camera", fifo=3),
            lane("second", 20, trigger="first", fifo=1),
        ),
        (ThreadTiming("a", ("first",)), ThreadTiming("b", ("second",))),
    )
    # second runs 2-22; at 7 one waits, so first is held back till 22: then both are dispatched
    assert jobs(timing, horizon_ns=25) == {
        "first": [(0, 0, 2), (5, 5, 7), (10, 22, 24)],
        "second": [(2, 2, 22)],
    }
    assert worst(timing, 1, horizon_ns=25)["backlog"] == [3]  # 10, 15, 20


def test_priority_takes_the_first_of_the_lanes_and_fifo_the_earliest_arrival():
    lanes = (lane("a", 3, period_ns=100), lane("b", 3, period_ns=100), lane("c", 5, period_ns=100))
    script: dict[str, Any] = {"horizon_ns": 50, "phases": {"a": 4, "b": 2, "c": 0}}
    assert jobs(one_thread(*lanes), **script) == {
        "a": [(4, 5, 8)],
        "b": [(2, 8, 11)],
        "c": [(0, 0, 5)],
    }
    assert jobs(one_thread(*lanes, policy="fifo"), **script) == {
        "a": [(4, 8, 11)],
        "b": [(2, 5, 8)],
        "c": [(0, 0, 5)],
    }
    script["phases"] = {"a": 4, "b": 4, "c": 0}  # equal arrivals: the order of the lanes
    assert jobs(one_thread(*lanes, policy="fifo"), **script)["b"] == [(4, 8, 11)]


def test_the_higher_rank_preempts_and_a_start_is_a_dispatch():
    # low starts at 0, high computes 2-5 and 12-15; low's second job is dispatched at 13, though
    # high computes till 15
    timing = Timing(
        (),
        (lane("low", 6, period_ns=13), lane("high", 3, period_ns=10)),
        (
            ThreadTiming("l", ("low",), core="0", rank=1),
            ThreadTiming("h", ("high",), core="0", rank=2),
        ),
    )
    script = {"horizon_ns": 21, "phases": {"high": 2}}
    assert jobs(timing, **script) == {
        "low": [(0, 0, 9), (13, 13, 21)],
        "high": [(2, 2, 5), (12, 12, 15)],
    }
    assert worst(timing, 0, **script)["elapsed"] == [9]


def interpreter(held: int) -> Timing:
    return Timing(
        (),
        (
            lane("x", 6, period_ns=100, held_ns=held),
            lane("y", 8, period_ns=100, held_ns=4),
            lane("z", 5, period_ns=100),
        ),
        tuple(ThreadTiming(f"t{name}", (name,), process="p") for name in "xyz"),
    )


def test_the_interpreter_is_held_by_one():
    # x first: x holds 0-3, then computes to 6; y waits till 3, holds 3-7, ends at 11; z needs none
    script: dict[str, Any] = {"horizon_ns": 50, "holders": ["tx"]}
    assert jobs(interpreter(3), **script) == {
        "x": [(0, 0, 6)],
        "y": [(0, 0, 11)],
        "z": [(0, 0, 5)],
    }
    # y first: y 0-8, x waits till 4 and ends at 10
    script["holders"] = ["ty"]
    assert jobs(interpreter(3), **script) == {
        "x": [(0, 0, 10)],
        "y": [(0, 0, 8)],
        "z": [(0, 0, 5)],
    }
    # by turns of 2, x first: x 0-2, y 2-4, x 4-5 (then free to 8), y 5-7, free to 11
    script |= {"holders": ["tx", "ty"], "slice_ns": 2}
    assert jobs(interpreter(3), **script)["x"] == [(0, 0, 8)]
    assert jobs(interpreter(3), **script)["y"] == [(0, 0, 11)]


def test_a_short_job_holds_it_throughout():
    timing = interpreter(5)
    script = {"horizon_ns": 50, "execution": {"x": [2], "y": [8]}, "holders": ["ty"]}
    timing = Timing(
        (), (lane("x", 6, best=2, period_ns=100, held_ns=5), *timing.lanes[1:]), timing.threads
    )
    assert jobs(timing, **script)["x"] == [(0, 0, 6)]  # y holds 0-4


def test_who_waits_for_the_interpreter_leaves_its_core():
    # high and far share an interpreter, high and low a core; far holds 0-4, low computes 0-4,
    # high 4-7, low 7-9
    timing = Timing(
        (),
        (
            lane("far", 4, period_ns=100, held_ns=4),
            lane("high", 3, period_ns=100, held_ns=3),
            lane("low", 6, period_ns=100),
        ),
        (
            ThreadTiming("tf", ("far",), process="p"),
            ThreadTiming("th", ("high",), process="p", core="0", rank=2),
            ThreadTiming("tl", ("low",), core="0", rank=1),
        ),
    )
    assert jobs(timing, horizon_ns=50, holders=["tf"]) == {
        "far": [(0, 0, 4)],
        "high": [(0, 0, 7)],
        "low": [(0, 0, 9)],
    }


def test_a_preempted_thread_may_keep_the_interpreter():
    # far and low share an interpreter, urgent and low a core; urgent computes 1-6; low holds it
    # from 0 on: to 8 when it keeps it, else far takes it at 1
    timing = Timing(
        (),
        (
            lane("far", 4, period_ns=100, held_ns=4),
            lane("urgent", 5, period_ns=100),
            lane("low", 3, period_ns=100, held_ns=3),
        ),
        (
            ThreadTiming("tf", ("far",), process="p"),
            ThreadTiming("tu", ("urgent",), core="0", rank=2),
            ThreadTiming("tl", ("low",), process="p", core="0", rank=1),
        ),
    )
    script: dict[str, Any] = {"horizon_ns": 50, "phases": {"urgent": 1}, "holders": ["tl"]}
    assert jobs(timing, **script) == {
        "far": [(0, 0, 5)],
        "urgent": [(1, 1, 6)],
        "low": [(0, 0, 8)],
    }
    assert jobs(timing, **script, keeps=True) == {
        "far": [(0, 0, 12)],
        "urgent": [(1, 1, 6)],
        "low": [(0, 0, 8)],
    }


def test_publication_before_the_finish():
    # servo 10-20 publishes at 13: log starts at 13 on a thread of its own; at 20 the servo acts
    timing = Timing(
        (SourceTiming("state", 30, 30, 2, 2),),
        (
            lane("servo", 10, period_ns=30, reads=("state",), after_ns=7, after_best_ns=1),
            lane("log", 1, trigger="servo"),
        ),
        (ThreadTiming("a", ("servo",)), ThreadTiming("b", ("log",))),
    )
    script: dict[str, Any] = {"horizon_ns": 60, "phases": {"servo": 10}}
    assert jobs(timing, **script) == {
        "servo": [(10, 10, 20), (40, 40, 50)],
        "log": [(13, 13, 14), (43, 43, 44)],
    }
    found = worst(timing, 1, **script)
    assert (found["fresh"], found["sent"], found["oldest"]) == ([10], [13], [50])
    assert found["published"] == [43]
    script["after"] = {"servo": [1, 7]}
    assert jobs(timing, **script)["log"] == [(19, 19, 20), (43, 43, 44)]


def test_an_age_is_of_the_oldest_input():
    # of one source by two ways: fuse reads b (of the camera directly) and a (every 20)
    timing = Timing(
        (SourceTiming("camera", 10, 10),),
        (
            lane("slow", 2, period_ns=20, reads=("camera",)),
            lane("fuse", 1, trigger="camera", reads=("slow",)),
        ),
        (ThreadTiming("a", ("slow",)), ThreadTiming("b", ("fuse",))),
    )
    # slow reads 0 at 3 (done 5), 20 at 23 (done 25); fuse of 10 and 20 reads 0, of 30 reads 20
    found = worst(timing, 2, horizon_ns=31, phases={"slow": 3})
    assert found["fresh"] == [20]
    assert found["oldest"] == [31]


def test_delivery_keeps_the_order_of_capture():
    # captures 0, 10, 20, 30; latencies 25, 2, 1, 9: delivered 25, 25, 25, 39
    timing = one_thread(
        lane("see", 1, trigger="camera", fifo=4), sources=[SourceTiming("camera", 10, 10, 1, 25)]
    )
    script = {"horizon_ns": 45, "latency": {"camera": [25, 2, 1, 9]}}
    assert jobs(timing, **script)["see"] == [(25, 25, 26), (25, 26, 27), (25, 27, 28), (39, 39, 40)]
    found = worst(timing, 1, **script)
    assert found["backlog"] == [3]
    assert found["fresh"] == [25]


def test_what_is_under_way_at_the_end_has_waited_so_long():
    # urgent is released whenever it finishes; starved waits from 1 on
    timing = one_thread(lane("urgent", 10, period_ns=10), lane("starved", 5, period_ns=100))
    script: dict[str, Any] = {"horizon_ns": 48, "phases": {"starved": 1}}
    assert worst(timing, 1, **script)["response"] == [47]
    assert worst(timing, 1, **script)["elapsed"] == [-1]
    script = {"horizon_ns": 18, "execution": {"urgent": [9, 3]}}
    assert worst(timing, 1, **script)["elapsed"] == [5]  # 9-14, urgent 14-17
    script = {"horizon_ns": 12, "execution": {"urgent": [9, 3]}}
    assert worst(timing, 1, **script)["elapsed"] == [3]
    assert worst(timing, 1, **script)["response"] == [12]
