"""`make arm64`: haihe on an emulated arm64 Debian, its bytes compared with this machine's.

    python -m tests.arm64.run [--out out/arm64]

Builds what is missing (build_root.sh), runs probe.py here and under qemu-user with the same wheel
of haihe, replays each one's recordings on the other, and writes report.md and report.json. Exit
code 1 on a difference. A tool or registry out of reach is a line `SKIPPED: ...` and exit code 0.
"""

import argparse
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.arm64.compare import Facts, Row, compare, digest

HERE = Path(__file__).parent
VECTORS = HERE.parent / "vectors"
SKIP = 77
COMMAND = "make arm64"
TIMEOUT_S = {"native": 300, "emulated": 1200}


class Failed(Exception):
    """The proof could not be brought to an end; the text says why."""


def cache_folder() -> Path:
    """Where the root and its wheels are kept, as in build_root.sh."""
    given = os.environ.get("HAIHE_ARM64_ROOT")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else caches / "haihe-arm64"


def build(cache: Path) -> str:
    """Make the root, its wheels and haihe's; gives the reason when that must be skipped."""
    environment = os.environ | {"PYTHON": sys.executable, "HAIHE_ARM64_ROOT": str(cache)}
    with subprocess.Popen(
        [str(HERE / "build_root.sh")], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        last = ""
        for line in process.stdout:
            last = line.strip()
            if not last.startswith("SKIPPED"):
                print(line, end="", flush=True)
    if process.returncode == SKIP:
        return last
    if process.returncode:
        raise Failed(f"build_root.sh ended with {process.returncode}")
    return ""


def native_command(cache: Path) -> tuple[list[str], dict[str, str]]:
    """This machine's python, with the wheel before the checkout."""
    return [sys.executable], clean_environment() | {"PYTHONPATH": str(cache / "haihe")}


def emulated_command(cache: Path) -> tuple[list[str], dict[str, str]]:
    """The root's python under qemu-user, and only the wheels of the cache."""
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    assert qemu is not None  # build_root.sh saw to it
    root = cache / "root"
    settings = {
        "PYTHONHOME": root / "usr",
        "PYTHONPATH": f"{cache / 'haihe'}:{cache / 'site'}",
        "LD_LIBRARY_PATH": root / "usr" / "lib" / "aarch64-linux-gnu",
    }
    command = ["nice", qemu, "-L", str(root)]
    for name, value in settings.items():
        command += ["-E", f"{name}={value}"]
    return [*command, str(root / "usr" / "bin" / "python3.11")], clean_environment()


def clean_environment() -> dict[str, str]:
    """Without what would change an interpreter or a unit."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HAIHE", "LD_"))}
    return kept | {"ORT_DISABLE_TELEMETRY": "1"}


def probe(side: str, cache: Path, *arguments: str | Path) -> Facts:
    """Run probe.py on one side; gives what it found."""
    commands = {"native": native_command, "emulated": emulated_command}
    command, environment = commands[side](cache)
    what, out = arguments[0], Path(arguments[1])
    done = subprocess.run(
        [*command, str(HERE / "probe.py"), *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=TIMEOUT_S[side], check=False,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"probe.py {what}, {side}: exit code {done.returncode}\n{done.stderr[-4000:]}")
    name = "probe.json" if what == "make" else "replay.json"
    found: Facts = json.loads((out / name).read_text("utf-8"))
    return found


def check_sides(native: Facts, emulated: Facts, cache: Path) -> None:
    """Both ran the wheel, and the second one on arm64; otherwise nothing would be proven."""
    for side, facts in (("native", native), ("emulated", emulated)):
        found = facts["identity"]["haihe_from"]
        if Path(found) != cache / "haihe":
            raise Failed(f"{side}: haihe came from {found}, expected the wheel in {cache}/haihe")
    identity = emulated["identity"]
    if identity["machine"] != "aarch64" or not identity["emulated"]:
        raise Failed(f"emulated: found {identity}, expected aarch64 and the marker of the root")


def compare_pictures(native: Path, emulated: Path) -> Row:
    """The renderer's pictures on both."""
    import numpy as np

    one, other = (np.load(path).astype(np.int16) for path in (native, emulated))
    apart = np.abs(one - other)
    detail = (
        f"{len(one)} frames, {100 * float(np.mean(apart > 0)):.2f} % of the values differ, "
        f"by {int(apart.max())} of 255 at most"
    )
    return Row("rendered pictures", not apart.any(), detail, is_required=False)


def markdown(rows: Sequence[Row], native: Facts, emulated: Facts, date: str) -> str:
    """The report."""
    sides = (native["identity"], emulated["identity"])
    packages = sorted({*sides[0]["packages"], *sides[1]["packages"]})
    wrong = sum(row.is_required and not row.is_equal for row in rows)
    lines = [
        "# haihe on emulated arm64",
        "",
        f"`{COMMAND}`, {date}. "
        + (f"**{wrong} required comparisons differ.**" if wrong else "All that must be equal is."),
        "",
        "| | native | emulated (qemu-user) |",
        "|---|---|---|",
        *(f"| {key} | {sides[0][key]} | {sides[1][key]} |" for key in ("machine", "python")),
        f"| C library | {sides[0]['system']} | {sides[1]['system']} |",
    ]
    for name in packages:
        pair = [side["packages"].get(name, "none") for side in sides]
        lines.append(f"| {name} | {pair[0]} | {pair[1]} |")
    for title, is_required in (("Must be equal", True), ("Reported, decides nothing", False)):
        lines += ["", f"## {title}", "", "| what | found | |", "|---|---|---|"]
        for row in rows:
            if row.is_required == is_required:
                lines.append(f"| {row.what} | {row.verdict} | {row.detail.replace('|', '/')} |")
    lines += ["", "## Frames to the servos", ""]
    for name in ("ideal", "demo"):
        for side, facts in (("native", native), ("emulated", emulated)):
            run = facts[name]
            lines.append(
                f"- `{name}`, {side}: {run['exchanges']} exchanges in {run['firings']} firings; "
                f"first `{run['first']}`, last `{run['last']}`"
            )
    lines += [
        "",
        "## Seconds of each section",
        "",
        "Emulated, never a latency: a curiosity, and what `make arm64` costs.",
        "",
        "| section | native | emulated |",
        "|---|---|---|",
    ]
    for name, spent in emulated["seconds"].items():
        lines.append(f"| {name} | {native['seconds'].get(name, '')} | {spent} |")
    return "\n".join([*lines, ""])


def document(rows: Sequence[Row], native: Facts, emulated: Facts, date: str) -> dict[str, Any]:
    """The report as data."""
    runs = {
        name: {
            side: {
                "bytes": len(facts[name]["actuator"]) // 2,
                "sha256": digest(bytes.fromhex(facts[name]["actuator"])),
                **{key: facts[name][key] for key in ("first", "last", "exchanges", "firings")},
            }
            for side, facts in (("native", native), ("emulated", emulated))
        }
        for name in ("ideal", "demo")
    }
    hidden = ("haihe_from",)
    sides = (("native", native), ("emulated", emulated))
    return {
        "schema": 1,
        "command": COMMAND,
        "date": date,
        "ok": all(row.is_equal for row in rows if row.is_required),
        "machines": {
            side: {k: v for k, v in facts["identity"].items() if k not in hidden}
            for side, facts in sides
        },
        "rows": [
            {
                "what": row.what, "equal": row.is_equal, "required": row.is_required,
                "detail": row.detail,
            }
            for row in rows
        ],
        "to_the_servos": runs,
        "seconds_emulated_never_a_latency": dict(emulated["seconds"]),
    }  # fmt: skip


def prove(cache: Path, out: Path) -> bool:
    """Run both sides, compare, report; whether all that must be equal is."""
    work = cache / "run"
    shutil.rmtree(work, ignore_errors=True)
    here, there = work / "native", work / "emulated"
    vectors = ("--vectors", VECTORS)
    native = probe("native", cache, "make", here, *vectors)
    print("emulated: imports, traces, the demo in virtual time, a model, replays", flush=True)
    frames = ("--frames", here / "frames.npy")
    emulated = probe("emulated", cache, "make", there, *vectors, *frames, "--replay", here)
    check_sides(native, emulated, cache)
    back = probe("native", cache, "replay", here, "--replay", there)
    rows = compare(native, emulated, back)
    rows.append(compare_pictures(here / "frames.npy", there / "frames.npy"))
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(markdown(rows, native, emulated, date), "utf-8")
    data = document(rows, native, emulated, date)
    (out / "report.json").write_text(json.dumps(data, ensure_ascii=False, indent=1), "utf-8")
    for row in rows:
        print(f"{row.verdict.strip('*'):16} {row.what}: {row.detail}")
    print(f"report: {out / 'report.md'}, {out / 'report.json'}")
    return bool(data["ok"])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.arm64.run")
    parser.add_argument("--out", type=Path, default=Path("out", "arm64"))
    out = parser.parse_args(arguments).out
    cache = cache_folder().absolute()
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time: the cache is rebuilt in place
        try:
            skipped = build(cache)
            if skipped:
                print(f"{skipped} (arm64 was not proven)")
                return 0
            if prove(cache, out):
                return 0
            print("FAILED: what must be equal is not", file=sys.stderr)
        except Failed as exc:
            print(f"FAILED: {exc}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
