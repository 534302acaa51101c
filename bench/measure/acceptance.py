"""`haihe hw-accept`: what a board owner runs and sends back as one file.

It is the only way out of "unproven on hardware". The steps: recognition, doctor, timer jitter,
models, a servo bus over a pty, and the bytes that the ideal world sends to the servos, which must
be those of x86-64 (docs/arm64.md). A step that fails is in the file; the others go on.
`obstacles` judges a file, here and at the maintainer's; the checksum finds edits by accident, it
is no signature.

python -m haihe.bench.measure.acceptance     # prints the bytes and digest to put in here
"""

import hashlib
import os
import platform
import pwd
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from haihe.bench.measure.loop import measure_loop
from haihe.bench.measure.model import Settings
from haihe.bench.measure.percentile import samples_needed
from haihe.bench.measure.protocol import Machine, Result
from haihe.bench.measure.surroundings import fingerprint
from haihe.bench.measure.sweep import measure_apart
from haihe.boards.doctor import Report, examine
from haihe.boards.recognise import Recognition, recognise
from haihe.runtime import registry
from haihe.runtime.clock import SECOND, wall_time_s
from haihe.runtime.errors import HaiheError

KIND = "haihe-hw-accept-1"
EMULATED = "emulated: cannot leave 'unproven on hardware'"
# `ideal` of docs/arm64.md: 4 s, seed 20. From x86-64; `make arm64` requires the same of arm64.
SENT_BYTES = 5144
SENT_SHA256 = "f2deee5855b8e911e657a9cdfb0cf586843f722d1d1bbc0f0851e8c2ebd146af"
REFERENCE_MODELS = ("ultraface_slim", "fastestdet", "yolox_nano")
T = TypeVar("T")


class Sent(msgspec.Struct):
    """What the servos were sent in the ideal world."""

    bytes: int
    sha256: str


class Acceptance(msgspec.Struct):
    """The file. A step that failed is None, and told in `failures`."""

    machine: Machine
    recognition: Recognition
    is_quick: bool
    started: float  # wall time, s since 1970
    doctor: Report | None = None
    loop: Result | None = None
    models: list[Result] = []
    servo: Result | None = None
    sent: Sent | None = None
    failures: list[str] = []
    claim: str = ""  # "proven on hardware", or why not
    kind: str = KIND
    checksum: str = ""


def accept(quick: bool, tell: Callable[[str], None]) -> Acceptance:
    """Run all steps. tell: a line before each."""
    found = Acceptance(fingerprint(), recognise(), quick, wall_time_s())

    def step(name: str, work: Callable[[], T]) -> T | None:
        tell(name)
        try:
            return work()
        except (HaiheError, OSError) as exc:
            found.failures.append(_anonymous(f"{name}: {exc}"))
            return None

    found.doctor = step("doctor", _doctor)
    loop_s = 2 if quick else 30
    found.loop = step("timer jitter", lambda: measure_loop(200.0, loop_s * SECOND))
    limit = SECOND if quick else 30 * SECOND
    for name in model_names(quick):
        settings = Settings(name, time_limit_ns=limit)
        result = step(f"model {name}", partial(measure_apart, settings))
        found.models += [result] if result is not None else []
    found.servo = step("servo bus over a pty", lambda: _servo(SECOND if quick else 10 * SECOND))
    found.sent = step("bytes to the servos, virtual time", send_ideal)
    found.claim = "; ".join(obstacles(found)) or "proven on hardware"
    found.checksum = checksum(found)
    return found


def model_names(quick: bool) -> list[str]:
    """The part model, and those of the reference data where they are."""
    folder = os.environ.get("HAIHE_REFERENCE", "")
    more = REFERENCE_MODELS if folder and Path(folder, "models").is_dir() else ()
    return ["part", *more[: 1 if quick else None]]


def obstacles(found: Acceptance) -> Iterator[str]:
    """Why a file does not prove its board; nothing when it does."""
    machine, seen = found.machine, found.recognition
    if machine.is_emulated or seen.is_emulated:
        yield EMULATED
    if machine.is_virtual or seen.is_virtual:
        yield "virtual: a guest under a hypervisor is not the board"
    if found.is_quick:
        yield "--quick: too short to prove anything"
    if machine.board != seen.board or seen.board not in registry.data_names("board"):
        yield f"board {seen.board!r} is not known: its compute profile comes first"
    elif seen.board.startswith("generic"):
        yield f"{seen.board} is no board: its compute profile comes first"
    elif not seen.is_exact:
        yield f"only the chip was recognised ({seen.why})"
    yield from found.failures
    errors = [f for f in found.doctor.findings if f.severity == "error"] if found.doctor else []
    yield from (f"doctor: {finding.check}: {finding.found}" for finding in errors)
    yield from _missing(found)
    for result in (*found.models, found.loop, found.servo):
        if result is not None and result.machine != machine:
            yield f"{result.name} was measured on another machine"
        if result is not None and not found.is_quick:
            count = max((len(series.samples_ns) for series in result.series), default=0)
            if count < samples_needed(0.9):
                yield f"{result.name}: {count} samples, {samples_needed(0.9)} are wanted"
    if found.sent is not None and found.sent != Sent(SENT_BYTES, SENT_SHA256):
        yield (
            f"bytes to the servos: {found.sent.bytes}, SHA-256 {found.sent.sha256[:16]}, expected "
            f"{SENT_BYTES}, {SENT_SHA256[:16]}"
        )


def _missing(found: Acceptance) -> Iterator[str]:
    if not any(result.name == "model part" for result in found.models):
        yield "no result of the part model"
    for name in ("doctor", "loop", "servo", "sent"):
        if getattr(found, name) is None:
            yield f"no result of the step {name}"


def checksum(found: Acceptance) -> str:
    """SHA-256 of everything but itself, as it reads when it has come back from a file."""
    data = msgspec.json.encode(msgspec.structs.replace(found, checksum=""))
    again = msgspec.json.decode(data, type=Acceptance)  # an integer may come back as a float
    return hashlib.sha256(msgspec.json.encode(again)).hexdigest()


def to_json(found: Acceptance) -> bytes:
    """The file's bytes."""
    return msgspec.json.format(msgspec.json.encode(found), indent=1)


def read(path: Path) -> Acceptance:
    """A file back, its checksum checked. Raises HaiheError."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Acceptance)
    except (OSError, msgspec.DecodeError) as exc:
        raise HaiheError(f"{path}: not a file of haihe hw-accept: {exc}.") from exc
    if found.kind != KIND:
        raise HaiheError(f"{path}: found kind {found.kind!r}, expected {KIND!r}.")
    if checksum(found) != found.checksum:
        raise HaiheError(f"{path}: the checksum is wrong: the file was changed. Ask for it again.")
    return found


def send_ideal() -> Sent:
    """The demo's control part in the ideal world, 4 s of virtual time."""
    from haihe import Graph, camera, servos
    from haihe.pipelines.launch import simulate
    from haihe.pipelines.nodes.pursue import Pursue
    from haihe.pipelines.worlds.ideal import ideal_detector
    from haihe.runtime.record.recording import Recording

    with Graph("ideal") as g:
        cam, neck = camera("front"), servos("neck")
        neck.command(Pursue("washer")(ideal_detector(cam.image), neck.state))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ideal.mcap"
        simulate(
            g, "4s", unit="pan-tilt", seed=20, world={"ideal": True, "latency_ms": 40.0},
            budgets={"ideal_detector": "10ms"}, record=path, frames="none",
        )  # fmt: skip
        data = Recording(path).sent_bytes("neck")
    return Sent(len(data), hashlib.sha256(data).hexdigest())


def _doctor() -> Report:
    report = examine()
    report.findings = [
        msgspec.structs.replace(f, found=_anonymous(f.found), cure=_anonymous(f.cure))
        for f in report.findings
    ]
    return report


def _servo(duration_ns: int) -> Result:
    from haihe.bench.measure.servo import measure_servo

    return measure_servo("pan-tilt", "", duration_ns)


def _anonymous(text: str) -> str:
    """Without the names of the host and the user, and of the folders it runs in."""
    names = {
        str(Path(__file__).resolve().parents[2]): "HAIHE",
        str(Path.home()): "~",
        str(Path.cwd()): ".",
        platform.node(): "HOST",
        _user(): "USER",
    }
    for name, instead in sorted(names.items(), key=lambda item: -len(item[0])):
        if len(name) > 2 and name not in ("root", "/root", "localhost"):
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", instead, text)
    return text


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container runs under any number
        return ""


if __name__ == "__main__":
    made = send_ideal()
    print(f'SENT_BYTES = {made.bytes}\nSENT_SHA256 = "{made.sha256}"')
