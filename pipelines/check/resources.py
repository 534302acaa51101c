"""A graph against its board: whether it is a host, its backends, its memory, its ports."""

import fnmatch
from collections.abc import Iterator, Mapping
from typing import Any

from haihe.boards.binding import BoundDevice
from haihe.boards.compute_profile import Backend, ComputeProfile, all_profiles
from haihe.models.detector import Detector
from haihe.models.manifest import Manifest, find_manifest
from haihe.pipelines.check.finding import Finding, place, some
from haihe.pipelines.check.processes import process_memory
from haihe.pipelines.launch import Prepared
from haihe.runtime import registry
from haihe.runtime.errors import ModelError
from haihe.runtime.graph import NodeUse

# a backend's file in models/backends, where the board profiles call its runtime otherwise
RUNTIMES = {"ort": "onnxruntime", "rknn": "rknnlite"}
MB = 1_000_000
SYSTEM_MB = 200  # assumed: kernel, services, page cache that cannot go
# measured on x86-64 (CPython 3.13, onnxruntime, OpenCV): resident set of the launcher and both
BASE_MB = 80
# measured with four models of 1.0 to 3.7 MB: 14 to 46 MB each, opened and run
MODEL_BASE_MB, MODEL_FACTOR = 20, 8
FRAMES = 6  # of a camera at once: reader, slot, lane, and what OpenCV keeps
ASSUMED_SIZE = (1280, 720)  # of a camera whose profile does not say
ENOUGH = 0.7  # of the memory, above which it is worth a word
SHOWN = 5
PLUGGED = ("/dev/ttyUSB*", "/dev/ttyACM*", "/dev/serial/*", "/dev/pts/*", "/tmp/*")


def board_findings(profile: ComputeProfile) -> Iterator[Finding]:
    """Whether haihe runs on that board at all."""
    if not profile.is_host:
        yield Finding(
            "fails",
            place(profile.where, "is_host"),
            f"{profile.board} ({profile.about}) does not run haihe: it is a peer on a wire "
            f"({profile.system}).",
            "Choose a board that is a host (haihe boards list), and reach this one by its driver.",
        )


def core_findings(prepared: Prepared, cores: int) -> Iterator[Finding]:
    """Threads on CPUs that are not there. cores: 0, how many there are is not known."""
    threads = prepared.binding.unit.unit.threads
    for name, profile in threads.items():
        if cores and isinstance(profile.core, int) and profile.core >= cores:
            yield Finding(
                "fails",
                place(profile.where, "core"),
                f"thread {name} is placed on core {profile.core}; there are 0 to {cores - 1}.",
                "Choose one of them.",
            )


def models_of(prepared: Prepared) -> tuple[dict[str, Manifest], list[Finding]]:
    """The manifest of each node that runs a model, and what is wrong with the others."""
    manifests: dict[str, Manifest] = {}
    problems = []
    for name, use in prepared.graph.nodes.items():
        if not isinstance(use.instance, Detector):
            continue
        try:
            manifest = find_manifest(use.instance.model)
            manifest.path()
        except ModelError as exc:
            problems.append(Finding("fails", use.line, f"node {name}: {exc}"))
        else:
            manifests[name] = manifest
    return manifests, problems


def backend_findings(
    prepared: Prepared, manifests: Mapping[str, Manifest], profile: ComputeProfile | None
) -> Iterator[Finding]:
    """Every model against the backends of the board and of this haihe."""
    for name, manifest in manifests.items():
        use, runtime = prepared.graph.nodes[name], RUNTIMES.get(manifest.backend, manifest.backend)
        if profile is not None and not any(b.runtime == runtime for b in profile.backends):
            yield _not_on_board(use, manifest, runtime, profile)
            continue
        known = registry.names("backend")
        if manifest.backend not in known:
            yield Finding(
                "fails",
                use.line,
                f"node {name}: model {manifest.model} is made for {manifest.backend} "
                f"({place(manifest.where, 'backend')}), for which haihe has no backend here (it "
                f"has: {', '.join(known)}).",
                "Choose a model for one of them, or install the package that adds it.",
            )


def _not_on_board(
    use: NodeUse, manifest: Manifest, runtime: str, profile: ComputeProfile
) -> Finding:
    others = [p.board for p in all_profiles()[0] if any(b.runtime == runtime for b in p.backends)]
    return Finding(
        "fails",
        use.line,
        f"node {use.name}: model {manifest.model} runs on {runtime} "
        f"({place(manifest.where, 'backend')}), which {profile.board} does not have (it has: "
        f"{', '.join(map(_name, profile.backends)) or 'none'}).",
        f"Choose a model for one of these, or a board with {runtime}: "
        f"{some(others, SHOWN) or 'none is known'}.",
    )


def _name(backend: Backend) -> str:
    return f"{backend.runtime} {backend.provider}".rstrip()


def memory_findings(
    prepared: Prepared, manifests: Mapping[str, Manifest], profile: ComputeProfile
) -> Iterator[Finding]:
    """The estimated need against the smallest memory that the board is sold with."""
    if not profile.memory_gb:
        return
    parts = [f"system {SYSTEM_MB} (assumed)", f"runtime {BASE_MB}"]
    need = float(SYSTEM_MB + BASE_MB)
    for name, manifest in manifests.items():
        size = manifest.path().stat().st_size / MB
        takes = MODEL_BASE_MB + MODEL_FACTOR * size
        need += takes
        parts.append(f"{name} {takes:.0f} ({MODEL_BASE_MB} + {MODEL_FACTOR} x {size:.1f} of file)")
    pictures: dict[str, float] = {}
    for role in prepared.plan.streams:
        options = prepared.binding.devices[role].options
        said = getattr(options, "size", None)
        width, height = said or ASSUMED_SIZE
        pictures[role] = width * height * 3 / MB
        takes = FRAMES * pictures[role]
        need += takes
        assumed = "" if said else ", size assumed"
        parts.append(f"{role} {takes:.0f} ({FRAMES} frames of {width}x{height}{assumed})")
    for what, takes in process_memory(prepared, pictures.values()):
        need += takes
        parts.append(f"{what} {takes:.0f}")
    has = min(profile.memory_gb) * 1000
    if need <= ENOUGH * has:
        return
    smallest = "" if len(profile.memory_gb) == 1 else " in its smallest form"
    yield Finding(
        "fails" if need > has else "warns",
        place(profile.where, "memory_gb"),
        f"about {need:.0f} MB are needed, {need / has:.0%} of the {has:.0f} MB that "
        f"{profile.board} has{smallest}: {', '.join(parts)}. Estimated, not measured.",
        "Choose a smaller model or picture, or a board with more memory.",
    )


def port_findings(prepared: Prepared, profile: ComputeProfile | None) -> Iterator[Finding]:
    """Two roles on one port; a port that the board's profile does not name, or warns of."""
    taken: dict[str, BoundDevice] = {}
    for bound in prepared.binding.devices.values():
        port = port_of(bound)
        if not port:
            continue
        key = "port" if bound.profile.port else "options"
        if port in taken:
            other = taken[port]
            yield Finding(
                "fails",
                place(bound.profile.where, key),
                f"{bound.role} and {other.role} ({place(other.profile.where, key)}) are both on "
                f"{port}: a port has one owner.",
                "Give one of them the port that it is really on.",
            )
            continue
        taken[port] = bound
        if profile is not None and bound.profile.port:
            yield from _on_board(bound, port, profile)


def port_of(bound: BoundDevice) -> str:
    """The device file that a bound device takes for itself; "" if none is known."""
    port = str(bound.profile.port)
    if port:
        return port.partition(":")[2] if port.startswith(("serial:", "pty:")) else port
    device: Any = getattr(bound.options, "device", "")
    return f"/dev/video{device}" if str(device).isdecimal() else str(device)


def _on_board(bound: BoundDevice, port: str, profile: ComputeProfile) -> Iterator[Finding]:
    if not profile.serial or any(fnmatch.fnmatch(port, pattern) for pattern in PLUGGED):
        return
    where = place(bound.profile.where, "port")
    known = next((p for p in profile.serial if p.device == port), None) or next(
        (p for p in profile.serial if fnmatch.fnmatch(port, p.device)), None
    )
    if known is None:
        has = ", ".join(f"{p.device} ({p.note})" if p.note else p.device for p in profile.serial)
        yield Finding(
            "warns",
            where,
            f"{bound.role} is on {port}, which the profile of {profile.board} does not name; it "
            f"names: {has}.",
            "Use one of these or a USB adapter, or switch the port on.",
        )
    elif "console" in known.note:
        yield Finding(
            "warns",
            where,
            f"{bound.role} is on {port} of {profile.board}: {known.note}. The system's console "
            "writes to it too.",
            "Use another port, or take the console off it.",
        )
    elif known.note:
        yield Finding("note", where, f"{bound.role} is on {port} of {profile.board}: {known.note}.")
