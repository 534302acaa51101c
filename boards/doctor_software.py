"""Checks of `haihe doctor` on Python and its packages."""

from collections.abc import Iterator

from haihe.boards.doctor_facts import Facts, Finding

OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
ORT = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-cann")
OLDEST, NEWEST = (3, 11), (3, 14)  # Pythons with a wheel of onnxruntime 1.32; its glibc
GLIBC = (2, 28)

Check = Iterator[Finding]


def python(facts: Facts) -> Check:
    python = facts.python
    if python is None:
        return
    name = ".".join(map(str, python.version))
    if python.bits != 64:
        yield Finding(
            "python",
            "error",
            f"Python of {python.bits} bits: no wheels exist",
            "Install a 64-bit system.",
        )
    elif python.version < OLDEST:
        yield Finding(
            "python",
            "error",
            f"Python {name}; haihe needs 3.11",
            "Install Python 3.11 or newer, such as by: uv python install 3.12",
        )
    elif python.version > NEWEST:
        yield Finding(
            "python",
            "warning",
            f"Python {name} is newer than the wheels of onnxruntime 1.32 (3.11 to 3.14)",
            "Use Python 3.14 or older.",
        )
    else:
        yield Finding("python", "ok", name)
    libc, version = python.libc
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if libc != "glibc":
        yield Finding(
            "libc",
            "warning",
            f"{libc or 'the C library'} is not glibc: wheels for manylinux do not fit",
            "Use a system with glibc, such as Debian.",
        )
    elif parts < GLIBC:
        yield Finding(
            "libc",
            "warning",
            f"glibc {version}; wheels of onnxruntime 1.32 need 2.28",
            "Use a newer system, or: pip install 'onnxruntime<1.25'",
        )


def opencv(facts: Facts) -> Check:
    if facts.python is None:
        return
    wheels = [name for name in OPENCV if name in facts.python.packages]
    if len(wheels) > 1:
        yield Finding(
            "opencv",
            "error",
            f"{' and '.join(wheels)} are both installed and overwrite each other's files",
            f"pip uninstall -y {' '.join(wheels)} && pip install opencv-python-headless",
        )
    elif "cv2" in facts.python.modules:
        yield Finding("opencv", "ok", wheels[0] if wheels else "of the system")
    else:
        no_wheel = facts.found.machine == "loongarch64"
        cure = "sudo apt install python3-opencv, and a venv with --system-site-packages"
        yield Finding(
            "opencv",
            "warning",
            "OpenCV is not installed: no cameras, no videos",
            cure if no_wheel else "pip install opencv-python-headless",
        )


def onnxruntime(facts: Facts) -> Check:
    python = facts.python
    if python is None:
        return
    builds = [name for name in ORT if name in python.packages]
    if len(builds) > 1:
        yield Finding(
            "onnxruntime",
            "error",
            f"{' and '.join(builds)} overwrite each other's files",
            f"pip uninstall -y {' '.join(builds)} && pip install {builds[-1]}",
        )
    ort = python.onnxruntime
    if ort is None:
        if facts.found.machine != "loongarch64":
            yield Finding(
                "onnxruntime", "warning", "not installed: no model runs", "pip install onnxruntime"
            )
        return
    if ort.untried:
        yield Finding(
            "onnxruntime",
            "warning",
            f"could not be tried: {ort.untried}",
            "Try: python -c 'import onnxruntime'",
        )
        return
    if ort.failure:
        yield Finding(
            "onnxruntime",
            "error",
            f"cannot be imported: {ort.failure}",
            "pip install --force-reinstall onnxruntime; a crash by a signal: try an "
            "older one, and tell its makers your /proc/cpuinfo",
        )
        return
    yield Finding("onnxruntime", "ok", f"{ort.version}: {', '.join(ort.providers)}")
    if not python.telemetry_off:
        yield Finding(
            "telemetry",
            "warning",
            "onnxruntime 1.29 and newer sends telemetry, and ORT_DISABLE_TELEMETRY is not 1",
            "export ORT_DISABLE_TELEMETRY=1 (haihe sets it unless you set it otherwise)",
        )
    profile = facts.profile
    wanted = [b for b in profile.backends if b.runtime == "onnxruntime"] if profile else []
    better = [b for b in wanted if b.provider not in ("", "CPUExecutionProvider")]
    if better and not any(b.provider in ort.providers for b in better):
        yield Finding(
            "onnxruntime",
            "note",
            f"only {', '.join(ort.providers)}; this board can have {better[0].provider}",
            f"its package: {better[0].package}; see: haihe boards show {facts.found.board}",
        )


def telemetry(facts: Facts) -> Check:
    if facts.session is not None and facts.session.ort_leftover:
        yield Finding(
            "telemetry",
            "note",
            "another program let onnxruntime's telemetry make ~/.cache/Microsoft/DeveloperTools",
            "export ORT_DISABLE_TELEMETRY=1 in its environment, too",
        )


def numba(facts: Facts) -> Check:
    if facts.python is None or "numba" not in facts.python.packages:
        return
    if facts.python.numba_cache:
        yield Finding("numba cache", "ok", facts.python.numba_cache[0])
    else:
        yield Finding(
            "numba cache",
            "error",
            "numba can keep its compiled code nowhere, and then refuses to compile",
            "export NUMBA_CACHE_DIR=/var/tmp/numba",
        )
