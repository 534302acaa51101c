"""`haihe hw-accept`: what it claims, what it refuses, and the bytes that it compares."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from haihe.bench.measure import acceptance
from haihe.bench.measure.acceptance import (
    EMULATED,
    SENT_BYTES,
    SENT_SHA256,
    Acceptance,
    Sent,
    checksum,
    obstacles,
    read,
    send_ideal,
    to_json,
)
from haihe.bench.measure.protocol import Machine, Result, Series
from haihe.boards.doctor import Report
from haihe.boards.doctor_facts import Finding
from haihe.boards.recognise import Recognition
from haihe.cli import main
from haihe.runtime.errors import HaiheError

MACHINE = Machine(board="rpi5")


def result(name: str) -> Result:
    return Result(name, "", {"rate": 200.0}, [Series("x", [1] * 500)], MACHINE, counts={"runs": 1})


def sound() -> Acceptance:
    return Acceptance(
        MACHINE, Recognition("rpi5", "compatible raspberrypi,5-model-b", "compatible"), False, 7.0,
        Report("rpi5", "", [Finding("disk", "warning", "small")]), result("loop"),
        [result("model part")], result("servo servo.sts"), Sent(SENT_BYTES, SENT_SHA256),
    )  # fmt: skip


def write(path: Path, found: Acceptance) -> str:
    found.checksum = checksum(found)
    path.write_bytes(to_json(found))
    return str(path)


def test_the_bytes_are_those_of_the_committed_digest() -> None:
    assert send_ideal() == Sent(SENT_BYTES, SENT_SHA256)


def test_a_sound_file_proves_its_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hw-accept", "--check", write(tmp_path / "a.json", sound())]) == 0
    assert "rpi5: proven on hardware\n" in capsys.readouterr().out


def test_an_emulated_machine_claims_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = sound()
    found.recognition.is_emulated = True
    assert main(["hw-accept", "--check", write(tmp_path / "a.json", found)]) == 1
    said = capsys.readouterr().out
    assert f"against it: {EMULATED}\n" in said
    assert "rpi5: stays unproven on hardware\n" in said


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("is_quick", True, "--quick"),
        ("models", [], "no result of the part model"),
        ("servo", None, "no result of the step servo"),
        ("failures", ["model part: no"], "model part: no"),
        ("sent", Sent(1, "f" * 64), "bytes to the servos: 1, SHA-256 ffffffffffffffff, expected"),
        ("machine", Machine(board="rpi5", is_virtual=True), "virtual: a guest"),
        ("doctor", Report("", "", [Finding("x", "error", "y")]), "doctor: x: y"),
        ("loop", Result("loop", "", {}, [], MACHINE), "loop: 0 samples, 44 are wanted"),
        ("recognition", Recognition("rpi5", "its chip", "soc"), "only the chip was recognised"),
        ("recognition", Recognition("rpi9", "", "model"), "board 'rpi9' is not known"),
    ],
)
def test_what_stands_against_it(field: str, value: object, said: str) -> None:
    found = msgspec.structs.replace(sound(), **{field: value})
    assert any(text.startswith(said) for text in obstacles(found))


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write(path, sound())
    path.write_text(path.read_text("utf-8").replace('"small"', '"large"'), "utf-8")
    with pytest.raises(HaiheError, match="the checksum is wrong: the file was changed"):
        read(path)
    path.write_text("{}", "utf-8")
    with pytest.raises(HaiheError, match="not a file of haihe hw-accept"):
        read(path)


def test_failed_steps_are_in_the_file_without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise HaiheError(f"no port in {Path.home()}/x")

    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("HAIHE_REFERENCE", raising=False)
    for name in ("examine", "measure_loop", "measure_apart", "_servo", "send_ideal"):
        monkeypatch.setattr(acceptance, name, fail)
    told: list[str] = []
    found = acceptance.accept(True, told.append)
    assert found.failures == [f"{step}: no port in ~/x" for step in told]
    assert len(told) == 5
    assert "no result of the step loop" in found.claim
    assert found.checksum == checksum(found)


@pytest.mark.process
def test_a_rehearsal_gives_one_file(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    environment = {k: v for k, v in os.environ.items() if k != "HAIHE_REFERENCE"}
    done = subprocess.run(
        [sys.executable, "-m", "haihe", "hw-accept", "--quick", "--out", str(out)],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    found = read(out)
    assert not found.failures
    assert found.sent == Sent(SENT_BYTES, SENT_SHA256)
    assert "--quick: too short to prove anything" in found.claim
    assert done.returncode == int(found.machine.is_emulated), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    folders = (tmp_path, Path(acceptance.__file__).resolve().parents[2])
    assert not [f for f in folders if f'"{f}' in out.read_text("utf-8")]
    assert main(["hw-accept", "--check", str(out)]) == 1
