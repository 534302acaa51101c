"""The command line before any verb: quick, quiet, and leaving nothing behind."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import haihe
from haihe.cli import main, parser
from haihe.cli.completion import script

HEAVY = ("numpy", "cv2", "numba", "onnxruntime", "mcap", "msgspec", "yaml", "serial", "zmq")
VERBS = ("run", "demo", "replay", "rec", "new", "completion")


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=os.environ | environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys, json, io, contextlib\n"
        "from haihe.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        f"    try: main({arguments!r})\n"
        "    except SystemExit as end: assert end.code == 0\n"
        f"print(json.dumps([len(out.getvalue()), [m for m in {HEAVY!r} if m in sys.modules]]))"
    )
    size, loaded = json.loads(python(code))
    assert size > 5
    assert loaded == []


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"haihe {haihe.__version__}\n"


def test_help_names_every_verb() -> None:
    said = parser().format_help()
    for verb in VERBS:
        assert re.search(rf"^    {verb}\b", said, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"], ["run"], ["run", "app.py", "--fast"], ["run", "app.py", "--frames", "all"],
        ["replay"], ["replay", "a.mcap", "--verify", "--step"], ["rec"], ["rec", "mend", "a"],
        ["new"], ["completion", "fish"], ["demo", "--seed", "x"],
    ],
)  # fmt: skip
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: haihe")


def test_no_verb_shows_the_help_and_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().out == parser().format_help()


def test_importing_leaves_no_file_and_no_thread(tmp_path: Path) -> None:
    code = (
        "import os, threading, haihe\n"
        "for name in haihe.__all__: getattr(haihe, name)\n"
        "import haihe.cli, haihe.testing, haihe.pipelines.launch, haihe.models.detector\n"
        "import onnxruntime\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
        "print([t.name for t in threading.enumerate()], len(os.listdir('/proc/self/task')))"
    )
    home = tmp_path / "home"
    home.mkdir()
    said = python(code, HOME=str(home), XDG_CACHE_HOME="", XDG_CONFIG_HOME="",
                  OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")  # fmt: skip
    assert said == "['MainThread'] 1\n"
    assert [str(path) for path in home.rglob("*")] == []


# --- completion -----------------------------------------------------------------------------------


def complete(*words: str) -> set[str]:
    """What bash offers for the last of the words."""
    quoted = " ".join(f"'{word}'" for word in words)
    code = (
        f"{script(parser(), 'bash')}\n"
        f"COMP_WORDS=({quoted})\nCOMP_CWORD={len(words) - 1}\n"
        "_haihe\nprintf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_is_valid(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    checker = (
        shell if shutil.which(shell) else "bash"
    )  # the zsh script is bash's under bashcompinit
    done = subprocess.run(
        [checker, "-n"], input=text, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_completes_verbs_their_options_and_choices() -> None:
    assert set(VERBS) <= complete("haihe", "")
    assert complete("haihe", "re") == {"replay", "rec"}
    assert complete("haihe", "run", "--du") == {"--duration"}
    assert {"info", "fix"} <= complete("haihe", "rec", "")
    assert "--out" in complete("haihe", "rec", "fix", "--")
    assert complete("haihe", "completion", "b") == {"bash"}
