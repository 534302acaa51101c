"""JSON lines: what stands in one, and from which firing it was written."""

import io
import itertools
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from tests.runtime.exec.fakes import Fault, following

from haihe.drivers.roles import camera
from haihe.pipelines.launch import simulate
from haihe.runtime.contracts import fresh
from haihe.runtime.errors import RecordError
from haihe.runtime.graph import Graph, named
from haihe.runtime.node import node
from haihe.runtime.telemetry.logs import VARIABLE, JsonLog, log_as_told, logging_to
from haihe.runtime.types import Image, Reading

log = logging.getLogger("tests.logs")


@node
def seen(image: Image) -> Reading:
    log.warning("a frame %d rows high", image.data.shape[0])
    return Reading(1.0)


@node(every="100ms")
@dataclass
class Tell:
    """Logs at every third call, from a function of its own and from another thread."""

    _n: int = 0

    def __call__(self, seen: Annotated[Reading, fresh("1s")]) -> Reading:
        self._n += 1
        if self._n % 3 == 0:
            tell(self._n)
            thread = threading.Thread(target=tell, args=(-self._n,), name="helper")
            thread.start()
            thread.join()
        return seen


def tell(number: int) -> None:
    log.warning("call %d", number)


def telling() -> Graph:
    with Graph("tell, all") as graph:
        named("tell", Tell())(named("seen", seen)(camera("front").image))
    return graph


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    text = io.StringIO()
    to = JsonLog(text)
    yield text
    to.close()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_from_a_firing_names_lane_firing_and_node(stream: io.StringIO) -> None:
    made = simulate(telling(), "1s", unit="pan-tilt", world={"ideal": True})
    told = [line for line in lines(stream.getvalue()) if line["logger"] == "tests.logs"]
    frames = [line for line in told if "rows high" in line["message"]]
    front = next(lane for lane in made.executor.assembly.lanes if lane.name == "front")
    assert [(f["lane"], f["node"], f["firing"]) for f in frames] == [
        ("front", "seen", number) for number in range(1, front.firing + 1)
    ]
    calls = [line for line in told if line["message"].startswith("call ")]
    inside = [line for line in calls if line["thread"] != "helper"]
    assert {line["node"] for line in inside} == {"tell"}
    assert {line["lane"] for line in inside} == {"every-100ms"}
    firings = [line["firing"] for line in inside]
    assert [b - a for a, b in itertools.pairwise(firings)] == [3] * (len(firings) - 1)
    assert len(firings) == 3
    helpers = [line for line in calls if line["thread"] == "helper"]
    assert [line["message"] for line in helpers] == ["call -3", "call -6", "call -9"]
    assert not any("lane" in line for line in helpers)


def test_what_a_raising_node_makes_the_runtime_say_names_it(stream: io.StringIO) -> None:
    graph = following(Fault(raise_at=5))
    made = simulate(graph, "1s", unit="pan-tilt", world={"ideal": True},
                    prepare_run=_say_what_raised)  # fmt: skip
    (line,) = [one for one in lines(stream.getvalue()) if one["message"] == "it raised"]
    assert (line["lane"], line["node"]) == ("every-20ms", "fault")
    assert line["firing"] == 5 + made.executor.assembly.nodes["pursue"].absent
    assert line["error"].startswith("Traceback (most recent call last):\n")
    assert line["error"].endswith("ValueError: made to raise")


def _say_what_raised(executor: Any, world: Any) -> None:
    for lane in executor.assembly.lanes:
        before = lane.on_raise

        def on_raise(lane: Any, name: str, exc: BaseException, before: Any = before) -> None:
            log.error("it raised", exc_info=exc)
            before(lane, name, exc)

        lane.on_raise = on_raise


def test_what_a_line_holds(stream: io.StringIO) -> None:
    log.info('ünïcode, "quoted"\nand two lines: %s', 5)
    log.debug("not shown")
    (line,) = lines(stream.getvalue())
    assert line.pop("t_ns") > 0
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "tests.logs",
        "message": 'ünïcode, "quoted"\nand two lines: 5',
        "process": "main",
        "pid": os.getpid(),
        "thread": "MainThread",
    }


def test_logging_is_as_before_afterwards() -> None:
    root = logging.getLogger()
    before = root.level, list(root.handlers), [one.level for one in root.handlers]
    text = io.StringIO()
    JsonLog(text).close()
    log.error("nobody hears it")
    assert text.getvalue() == ""
    assert (root.level, list(root.handlers), [one.level for one in root.handlers]) == before


def test_a_file_is_appended_to_and_children_are_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    path = tmp_path / "log.jsonl"
    path.write_text('{"message": "before"}\n')
    code = (
        "import logging; from haihe.runtime.telemetry.logs import log_as_told\n"
        "log = log_as_told('vision'); logging.getLogger('x').info('from a child'); log.close()"
    )
    with logging_to(str(path)):
        assert os.environ[VARIABLE] == str(path)
        log.info("from us")
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert VARIABLE not in os.environ
    found = lines(path.read_text())
    assert [(line["message"], line.get("process")) for line in found] == [
        ("before", None), ("from us", "main"), ("from a child", "vision")
    ]  # fmt: skip


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(RecordError) as caught, logging_to(str(tmp_path)):
        pass
    assert str(caught.value) == (
        f"log {tmp_path}: it cannot be opened: Is a directory. Choose another file."
    )


@pytest.mark.parametrize("told", ["", "0"])
def test_without_the_variable_nothing_changes(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, told)
    assert log_as_told() is None


def test_warnings_are_shown_on_the_terminal_as_ever(tmp_path: Path) -> None:
    code = (
        "import logging, sys; from haihe.runtime.telemetry.logs import logging_to\n"
        "with logging_to(sys.argv[1]):\n"
        "    logging.getLogger('x').info('quiet'); logging.getLogger('x').warning('loud')\n"
    )
    path = tmp_path / "log.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, timeout=60, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.stderr == "loud\n"
    assert [line["message"] for line in lines(path.read_text())] == ["quiet", "loud"]
