"""Compute profiles as text: one in full, all as a table.

python -m haihe.boards.table            # the table as Markdown
python -m haihe.boards.table --write    # into docs/boards.md, between its two marks
"""

import sys
from pathlib import Path

from haihe.boards.compute_profile import Backend, ComputeProfile, CoreClass, Match, all_profiles

PAGE = Path(__file__).resolve().parents[1] / "docs" / "boards.md"
BEGIN, END = "<!-- table: python -m haihe.boards.table --write -->", "<!-- end of table -->"
MARK = " (unconfirmed)"


def describe(profile: ComputeProfile) -> str:
    """All that a profile says, a line a fact; what nobody has checked is marked."""
    p = profile
    cores = [(f"cores.{i}", f"{_cores(c)}{_on(c)}") for i, c in enumerate(p.cores)]
    npus = [
        (f"accelerators.{i}", _join(a.name, f"{a.tops:g} TOPS" if a.tops else "", a.note))
        for i, a in enumerate(p.accelerators)
    ]
    backends = [(f"backends.{i}", _backend(b)) for i, b in enumerate(p.backends)]
    facts = {
        "soc": [("soc", _join(p.soc, p.machine))],
        "match": _match(p.match),
        "cores": cores,
        "isa": [("isa", " ".join((*p.isa, *(f"no {name}" for name in p.isa_absent))))],
        "memory": [("memory_gb", _memory(p))],
        "accelerator": npus,
        "backend": backends,
        "system": [("system", p.system)],
        "serial": [(f"serial.{i}", _join(s.device, s.note)) for i, s in enumerate(p.serial)],
        "can": [(f"can.{i}", _join(c.device, c.note)) for i, c in enumerate(p.can)],
        "cameras": [("cameras", p.cameras)],
        "thermal": [(f"thermal.{i}", text) for i, text in enumerate(p.thermal)],
        "power": [(f"power.{i}", text) for i, text in enumerate(p.power)],
        "quirk": [(f"quirks.{i}", text) for i, text in enumerate(p.quirks)],
        "source": [("source", text) for text in p.source],
        "proven": [("", p.proven_on_hardware or "not on hardware")],
    }
    lines = [f"{p.board}: {p.about}{'' if p.is_host else ' (a peer: haihe does not run on it)'}"]
    for name, items in facts.items():
        lines += [f"  {name:<12} {text}{_mark(p, path)}" for path, text in items if text]
    return "\n".join(lines)


def _match(match: Match) -> list[tuple[str, str]]:
    rules = {
        "compatible": match.compatible,
        "soc": match.soc,
        "soc_contains": match.soc_contains,
        "model": match.model,
        "dmi": match.dmi,
        "armbian": match.armbian,
        "files": tuple(_join(f.path, f.contains, " or ".join(f.equals)) for f in match.files),
        "cpuinfo": tuple(f"{c.field}: {c.contains}" for c in match.cpuinfo),
        "requires": match.requires,
    }
    return [(f"match.{k}", f"{k} {', '.join(rule)}") for k, rule in rules.items() if rule]


def _mark(profile: ComputeProfile, path: str) -> str:
    """Marks a fact; where only a part of it is open, names that part."""
    if path and profile.is_unconfirmed(path):
        return MARK
    parts = [u[len(path) + 1 :] for u in profile.unconfirmed if path and u.startswith(f"{path}.")]
    return f" (unconfirmed: {', '.join(parts)})" if parts else ""


def line(profile: ComputeProfile) -> str:
    """A line of `haihe boards list`."""
    npu = _accelerators(profile) or "-"
    return f"{profile.board:<20} {profile.about:<58} {npu}"


def table() -> str:
    """All profiles as Markdown."""
    rows = [
        "| profile | board | cores | memory, GB | infers beside them (INT8 TOPS, vendor's peak) | "
        "backends | unconfirmed | on hardware |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for p in all_profiles()[0]:
        cells = (
            f"`{p.board}`" + ("" if p.is_host else " (peer)"),
            p.about,
            " + ".join(_cores(c) for c in p.cores) or "as found",
            _memory(p).removesuffix(" GB") or "as found",
            _accelerators(p),
            ", ".join(dict.fromkeys(b.provider or b.runtime for b in p.backends)),
            ", ".join(f"`{path}`" for path in p.unconfirmed),
            p.proven_on_hardware or "unproven",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def rewritten(text: str) -> str:
    """A page with the table of now between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"the page has no lines {BEGIN!r} and {END!r}: put them back")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def _cores(cores: CoreClass) -> str:
    clock = "/".join(f"{ghz:g}" for ghz in cores.ghz)
    return f"{cores.count}x {cores.name}" + (f" {clock} GHz" if clock else "")


def _on(cores: CoreClass) -> str:
    here = f", cpu {cores.cpus}" if cores.cpus else ""
    return here if cores.is_for_linux else f"{here}, not for Linux"


def _memory(profile: ComputeProfile) -> str:
    return "/".join(f"{gb:g}" for gb in profile.memory_gb) + " GB" * bool(profile.memory_gb)


def _accelerators(profile: ComputeProfile) -> str:
    found = profile.accelerators
    return ", ".join(f"{a.name} ({a.tops:g})" if a.tops else a.name for a in found)


def _backend(backend: Backend) -> str:
    name = f"{backend.runtime} {backend.provider}".strip()
    package = f"package {backend.package}" if backend.package else ""
    return _join(name, package, f".{backend.format}", backend.note)


def _join(*texts: str) -> str:
    return "; ".join(text for text in texts if text)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(table() + "\n")
