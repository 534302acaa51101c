"""`haihe replay --step` driven by text, as from a pipe."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.follow_app import g as follow
from tests.cli.step_app import g as stepping

from haihe.cli.step import Stepper
from haihe.pipelines.launch import simulate
from haihe.runtime.graph import Graph
from haihe.runtime.record.recording import Recording
from haihe.testing import replayer

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("step")
    made = {"follow": folder / "follow.mcap", "stepping": folder / "stepping.mcap"}
    world = {"ideal": True, "fps": 30.0}
    simulate(follow, "600ms", unit="pan-tilt", world=world, record=made["follow"])
    simulate(stepping, "600ms", unit="pan-tilt", world=world, record=made["stepping"])
    return made


@pytest.fixture(autouse=True)
def no_trace() -> Iterator[None]:
    before = sys.gettrace()
    yield
    assert sys.gettrace() is before  # pdb has let go
    sys.settrace(before)


def session(recording: Path, graph: Graph, *commands: str, code: int = 0) -> list[str]:
    """What is said to some commands, without the echo of the first one's prompt."""
    out = io.StringIO()
    stepper = Stepper(
        replayer(recording, graph=graph), io.StringIO("".join(f"{c}\n" for c in commands)), out
    )
    assert stepper.run() == code
    return out.getvalue().splitlines()


def test_firings_come_in_the_order_of_their_clocks(recordings: dict[str, Path]) -> None:
    said = session(recordings["follow"], follow, "n", "", "", "n", "n front", "q")
    assert said == [
        "(haihe) n",
        "     0.000 ms  every-20ms set-up",
        "(haihe) ",
        "     0.000 ms  every-20ms 1  ideal_detector#0  Pursue:absent  event arm",
        "(haihe) ",
        "    14.480 ms  front 1  front.image#1  ideal_detector:called",
        "(haihe) n",
        "    20.000 ms  every-20ms 2  ideal_detector#1  Pursue:called",
        "(haihe) n front",
        "    47.813 ms  front 2  front.image#2  ideal_detector:called",
        "(haihe) q",
    ]
    listed = session(recordings["follow"], follow)
    times = [float(line.split()[0]) for line in listed[:-1]]
    assert times == sorted(times)
    assert len(times) > Recording(recordings["follow"]).firings


def after(said: list[str], command: str) -> list[str]:
    """What was said to a command."""
    at = said.index(f"(haihe) {command}") + 1
    end = next((i for i in range(at, len(said)) if said[i].startswith("(haihe) ")), len(said))
    return said[at:end]


def test_what_a_node_saw_and_did(recordings: dict[str, Path]) -> None:
    said = session(recordings["stepping"], stepping, "b Sum called", "c", "c", "p", "q")
    use = stepping.nodes["Sum"]
    assert after(said, "p") == [
        f"Sum: called  ({use.line})",
        "  in      x            u #5  age 26.667 ms  Reading(value=73.915, quality='good')",
        "  in      y            v #5  age 26.667 ms  Reading(value=147.71, quality='good')",
        "  out     out          #2  Reading(value=223.694, quality='good')",
        "  state   _total       112.882 -> 223.694",
        "  param   gain         0.5",
    ]
    (path,) = [recordings["stepping"]]
    steps = [s for s in replayer(path, graph=stepping).steps() if s.lane == "every-40ms"]
    fifth = next(s for s in steps if s.firing == 5)
    assert f"{fifth.inputs['u'][1].value:.6g}" == "73.915"


def test_a_node_that_was_not_called_and_one_of_another_lane(
    recordings: dict[str, Path],
) -> None:
    commands = ("p Sum", "b stale", "c", "c", "c", "p Sum", "p v", "q")
    said = session(recordings["stepping"], stepping, *commands)
    assert after(said, "p Sum") == ["RecordError: no firing yet. Write n for the first one."]
    assert after(said, "c") == [
        "breakpoint stale",
        "    40.000 ms  every-40ms 2  u#1 v#1  Sum:stale",
    ]
    at = len(said) - 1 - said[::-1].index("(haihe) p Sum")
    assert said[at + 4 : at + 6] == [
        "  out     out          nothing",
        "  state   _total       223.694",
    ]
    assert after(said, "p v") == [
        "RecordError: v is not in lane every-40ms, which fired here (it has: Sum). Write n LANE "
        "first; i lists lanes."
    ]


def test_a_bus_shows_its_state_and_what_the_guard_did(recordings: dict[str, Path]) -> None:
    said = session(recordings["follow"], follow, "b t=80ms", "c", "p neck", "q")
    assert after(said, "c")[0] == "breakpoint t=80ms"
    shown = after(said, "p neck")
    assert shown[0] == "neck: online"
    assert shown[1].startswith("  in      state        neck.state #5  age 0.260 ms  JointState(")
    assert shown[2:] == [
        "  guard   armed",
        "  command              [ 0.285961, -0.129349]",
        "  sent                 [ 0.285961, -0.129349]",
        "  so far               stale 1, invalid 1, slew 2",
    ]


def test_breakpoints_are_listed_spent_and_cleared(recordings: dict[str, Path]) -> None:
    said = session(
        recordings["stepping"], stepping, "b", "b Sum", "b v silent", "b t=0.5", "c", "b t=0.1s",
        "b clear", "b Smu", "b Sum stal", "b t=soon", "c",
    )  # fmt: skip
    assert after(said, "b") == ["  no breakpoints"]
    assert after(said, "b t=0.5") == ["  Sum", "  v silent", "  t=0.5"]
    assert after(said, "c")[0] == "breakpoint Sum"
    assert after(said, "b t=0.1s") == ["  Sum", "  v silent", "  t=0.5", "  t=0.1s"]
    assert after(said, "b clear") == ["  no breakpoints"]
    assert after(said, "b Smu") == [
        "RecordError: 'Smu' is no node or outcome of this recording. Did you mean 'Sum'?"
    ]
    assert after(said, "b Sum stal") == [
        "RecordError: 'stal' is no outcome of this recording. Did you mean 'stale'?"
    ]
    assert after(said, "b t=soon") == [
        "ContractError: 'soon' is not a quantity. Write a number and a unit, as in '5s'."
    ]
    assert said[-1].endswith(": equal")  # the last c went to the end


def test_a_breakpoint_where_the_replay_differs(recordings: dict[str, Path]) -> None:
    from haihe import camera, servos
    from haihe.pipelines.nodes.pursue import Pursue
    from haihe.pipelines.worlds.ideal import ideal_detector

    with Graph("follow") as changed:
        front, neck = camera("front"), servos("neck")
        neck.command(Pursue(alpha=0.7)(ideal_detector(front.image), neck.state))
    runner = replayer(recordings["follow"], graph=changed)
    runner.run()
    first = runner.report.differences[0]
    said = session(recordings["follow"], changed, "b differs", "c", "i", "b clear", "c", code=1)
    assert after(said, "c")[0] == "breakpoint differs"
    assert f"  {first.lane} {first.firing}  " in after(said, "c")[1]
    assert after(said, "i")[-1] == "  differences so far: 1"
    assert "differences" in "".join(after(said, "b clear") + said[-25:])


def test_lanes_help_and_what_is_no_command(recordings: dict[str, Path]) -> None:
    said = session(recordings["stepping"], stepping, "n", "i", "h", "x", "n ever", "d", "q")
    assert after(said, "i") == [
        "  every-40ms: 1 of 15 firings, every 40 ms: Sum",
        "  front: 0 of 18 firings, on front.image: ideal_detector, u, v",
        "  differences so far: 0",
    ]
    assert after(said, "h")[0] == "    n [LANE]      the next firing (of a lane)"
    assert after(said, "x") == ["'x' is no command. h: help"]
    assert after(said, "n ever") == [
        "RecordError: 'ever' is no lane of this recording. Known: every-40ms, front."
    ]
    assert after(said, "d") == [
        "RecordError: d: of which node? Write d NODE, one of: ideal_detector, u, v, Sum."
    ]


def test_pdb_stops_in_the_node_that_was_named_not_in_its_twin(recordings: dict[str, Path]) -> None:
    commands = ("d v", "p axis", "p parts.best().label", "r", "n", "d u", "p axis", "q", "n", "c")
    said = session(recordings["stepping"], stepping, *commands)
    text = "\n".join(said)
    assert f"> {HERE / 'step_app.py'}(14)centre()\n-> return Reading(" in text
    first = said.index("(Pdb) 1")
    assert said[first + 1] == "(Pdb) 'washer'"
    assert said[first + 2] == "(Pdb) --Return--"
    returned = next(i for i, line in enumerate(said) if "u:called v:called" in line)
    assert said.index("(haihe) d u") == returned + 1  # n left the node, and pdb with it
    assert "(Pdb) 0" in said
    assert said[-1].endswith(": equal")


def test_what_is_changed_in_pdb_is_a_difference(recordings: dict[str, Path]) -> None:
    said = session(
        recordings["follow"], follow, "n", "d Pursue", "!self.alpha = 0.1", "c", "c", code=1
    )
    assert said[-1].startswith("  lane every-20ms, firing ")


def test_pdb_of_a_node_that_is_not_called_any_more(recordings: dict[str, Path]) -> None:
    said = session(recordings["stepping"], stepping, "b t=550ms", "c", "d Sum")
    assert after(said, "d Sum")[0] == "node Sum was not called any more"
    assert said[-1].endswith(": equal")


def test_a_recorded_node_cannot_be_entered(tmp_path: Path) -> None:
    from haihe import camera, detector

    with Graph("seeing") as graph:
        detector("part")(camera("front").image)
    path = tmp_path / "run.mcap"
    simulate(graph, "100ms", unit="pan-tilt", record=path)
    said = session(path, graph, "d part")
    assert said[-1] == (
        "RecordError: node part is not called: decision replay takes its outputs from the "
        "recording. Replay with --perception to step into it."
    )


def test_from_a_pipe(recordings: dict[str, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "haihe", "replay", str(recordings["follow"]), "--step"],
        input="b Pursue\nc\nd\np round(dt, 3)\nq\nn\n", cwd=HERE, capture_output=True,
        env={"PYTHONPATH": str(HERE.parents[1]), "PATH": "", "HOME": "/nonexistent"},
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n(Pdb) 0.02\n(Pdb)" in done.stdout
    assert done.stdout.splitlines()[-2] == "(haihe) n"
