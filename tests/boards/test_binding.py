"""Binding a graph to a unit: where its threads run."""

import pytest

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
