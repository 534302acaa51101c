"""A control lane that the unit profile gives a priority and a process, beside a plain one."""

from haihe import Graph, named, node
from haihe.types import Reading


@node(every="5ms")
def beat() -> Reading:
    """A tick."""
    return Reading(1.0)


@node(every="50ms")
def plain() -> Reading:
    """The lane beside it."""
    return Reading(2.0)


with Graph("urgent") as graph:
    graph.thread("control", named("beat", beat)())
    named("plain", plain)()
