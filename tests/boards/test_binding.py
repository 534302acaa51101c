"""Binding a graph to a unit: where its threads run."""

import logging
import os

import pytest

from haihe.boards.cores import Core, choose_cores
from haihe.boards.unit import unit_from_text
from haihe.pipelines.launch import prepare
from haihe.runtime.errors import BoardError
from haihe.runtime.graph import Graph, named
from haihe.runtime.node import node
from haihe.runtime.types import Reading


def test_threads_of_one_core_need_different_priorities() -> None:
    @node(every="20ms")
    def beat() -> Reading:
        return Reading(0.0)

    with Graph("two") as g:
        g.thread("a", named("one", beat)())
        g.thread("b", named("two", beat)())

    def refused(threads: str) -> str:
        unit = unit_from_text(f"unit: bare\ndevices: {{}}\nthreads: {threads}\n", "unit.yaml")
        with pytest.raises(BoardError) as error:
            prepare(g, unit)
        return str(error.value)

    place = "{core: 1, priority: 20}"
    assert refused(f"{{a: {place}, b: {place}}}") == (
        "unit.yaml: the threads a and b on core 1 all have the priority 20. Give each another "
        "one, or a core of its own."
    )
    text = refused(f"{{c: {place}}}")
    assert text.endswith(": the plan of two has no thread 'c'. It has: a, b.")


RK3588 = [Core(cpu, size="little" if cpu < 4 else "big") for cpu in range(8)]


def test_a_class_gives_each_thread_another_core_from_the_top() -> None:
    wanted: dict[str, int | str] = {"control": "big", "vision": "big", "log": "little", "fixed": 7}
    assert choose_cores(wanted, RK3588) == {"fixed": 7, "control": 6, "vision": 5, "log": 3}


def test_a_class_with_too_few_cores_is_shared_in_turn() -> None:
    wanted: dict[str, int | str] = dict.fromkeys("abcde", "little")
    cores = [Core(cpu, size="little") for cpu in range(2)]
    assert choose_cores(wanted, cores) == {"a": 1, "b": 0, "c": 1, "d": 0, "e": 1}


def test_the_plan_has_a_core_of_this_machine_for_a_class(caplog: pytest.LogCaptureFixture) -> None:
    @node(every="20ms")
    def beat() -> Reading:
        return Reading(0.0)

    with Graph("one") as g:
        named("beat", beat)()
    text = "unit: bare\ndevices: {{}}\nthreads:\n  every-20ms: {{core: {}}}\n"
    with caplog.at_level(logging.WARNING):
        big = prepare(g, unit_from_text(text.format("big"), "unit.yaml")).plan.threads[0].core
        middle = prepare(g, unit_from_text(text.format("middle"), "unit.yaml")).plan
    assert big in os.sched_getaffinity(0)
    if middle.threads[0].core < 0:  # as on most machines
        assert caplog.messages == [
            "unit.yaml:4:16: threads.every-20ms.core: thread every-20ms wants a middle core, and "
            "this machine has none: it is not pinned."
        ]
    with pytest.raises(BoardError) as error:
        unit_from_text(text.format("bigg"), "unit.yaml")
    assert str(error.value) == (
        "unit.yaml:4:22: threads.every-20ms.core: found 'bigg', expected a whole number or 'big' "
        "or 'middle' or 'little'. Did you mean 'big'?"
    )
