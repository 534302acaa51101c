"""`haihe boards` and `haihe doctor`, in-process; and what `haihe --help` does not import."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.boards.machines import KINDS, make

from haihe.boards.compute_profile import all_profiles
from haihe.cli import main

ROCK = next(kind for kind in KINDS if kind.name == "rock 5b")
HEAVY = ("numpy", "cv2", "onnxruntime", "numba", "yaml", "msgspec", "haihe.boards.doctor")


def test_list_names_every_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [p.board for p in all_profiles()[0]]


def test_show_marks_what_is_unconfirmed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "show", "rpi5"]) == 0
    text = capsys.readouterr().out
    assert "rpi5: Raspberry Pi 5, Compute Module 5" in text
    assert "needs active cooling and a 5 V 5 A supply\n" in text
    assert "/dev/ttyAMA0; on the header after dtparam=uart0 or its overlay (unconfirmed)\n" in text
    assert "proven       not on hardware" in text


def test_show_without_a_name_is_of_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "show"]) == 0
    assert ": " in capsys.readouterr().out


def test_an_unknown_name_is_an_error_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards", "show", "rpi6"]) == 1
    assert "BoardError: board 'rpi6' is not known. Did you mean 'rpi" in capsys.readouterr().err


def test_detect_says_which_text_matched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, ROCK)
    assert main(["boards", "detect", "--root", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("rk3588  (compatible radxa,rock-5b)\n")
    assert "4 x Cortex-A55 (little), cpu 0-3" in text
    assert main(["boards", "detect", "--json", "--root", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["board"], found["is_exact"]) == ("rk3588", True)
    assert found["big_cores"] == [4, 5, 6, 7]


def test_a_root_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["boards", "detect"], ["doctor"]):
        assert main([*verb, "--root", "/nowhere"]) == 1
        assert "BoardError: --root /nowhere: no such folder." in capsys.readouterr().err


def test_doctor_on_another_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, ROCK)
    assert main(["doctor", "--root", str(tmp_path)]) == 0
    assert "-> echo 1 | sudo tee /sys/bus/usb-serial/" in capsys.readouterr().out
    assert main(["doctor", "--json", "--root", str(tmp_path)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == 1
    assert {"check", "severity", "found", "cure"} == set(report["findings"][0])


def test_doctor_exits_1_on_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from haihe.boards import doctor
    from haihe.boards.doctor_facts import Finding

    monkeypatch.setattr(doctor, "CHECKS", (lambda facts: [Finding("x", "error", "y", "z")],))
    assert main(["doctor", "--root", str(tmp_path)]) == 1
    assert "error    x  y\n" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom haihe.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"print('loaded', [n for n in {HEAVY!r} if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "doctor" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded []"
