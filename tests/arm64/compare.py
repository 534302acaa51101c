"""Two probes compared: rows that name what was equal and the first place that was not."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Facts = Mapping[str, Any]


class Tolerance(NamedTuple):
    """How far the detections of two machines may be apart."""

    box_px: float
    score: float


SAME_INPUT = Tolerance(0.01, 1e-4)
"""On equal pictures: a network's sums in another order. A servo's tick is 0.4 px of the camera."""
RESIZED = Tolerance(0.5, 0.02)
"""On pictures that were resized first: OpenCV's linear resize gives other bytes on ARM."""

NOTHING = "nothing to compare, so nothing proven"
MODES = {"decision": True, "perception": False}  # must the replay be equal?


@dataclass(frozen=True)
class Row:
    """One comparison. A row that is not required says what was found and decides nothing."""

    what: str
    is_equal: bool
    detail: str
    is_required: bool = True
    is_rough: bool = False  # equal means: within the tolerance that the detail states

    @property
    def verdict(self) -> str:
        """For the table."""
        if self.is_equal:
            return "within tolerance" if self.is_rough else "equal"
        return "**DIFFERENT**" if self.is_required else "differs"


def digest(data: bytes) -> str:
    """The first half of the SHA-256."""
    return hashlib.sha256(data).hexdigest()[:32]


def compare_bytes(what: str, native: str, emulated: str, *, is_required: bool = True) -> Row:
    """Bytes given as hex."""
    one, other = bytes.fromhex(native), bytes.fromhex(emulated)
    if one == other:
        found = f"{len(one):,} bytes, SHA-256 {digest(one)}" if one else NOTHING
        return Row(what, bool(one), found, is_required)
    shorter = min(len(one), len(other))
    at = next((i for i in range(shorter) if one[i] != other[i]), shorter)
    pieces = [part[at : at + 4].hex(" ") or "the end" for part in (one, other)]
    return Row(
        what,
        False,
        f"from byte {at:,} on: {pieces[0]} natively, {pieces[1]} emulated "
        f"({len(one):,} and {len(other):,} bytes)",
        is_required,
    )


def compare_facts(what: str, native: Facts, emulated: Facts, *, is_required: bool = True) -> Row:
    """Named values: the same names with the same values; on a difference the first names."""
    names = sorted({*native, *emulated})
    absent = object()
    other = [n for n in names if native.get(n, absent) != emulated.get(n, absent)]
    if not other:
        found = f"{len(names)} values" if names else NOTHING
        return Row(what, bool(names), found, is_required)
    shown = [f"{n}: {native.get(n, 'none')} | {emulated.get(n, 'none')}" for n in other[:3]]
    counts = f"{len(other)} of {len(names)} (native | emulated)"
    return Row(what, False, f"{counts}: " + "; ".join(shown), is_required)


def compare_checks(what: str, native: Facts, emulated: Facts) -> Row:
    """Named checks that must be true on both."""
    wrong = [
        f"{name} ({side})"
        for side, checks in (("native", native), ("emulated", emulated))
        for name, passed in checks.items()
        if passed is not True
    ]
    wrong += [f"{name} (on one only)" for name in sorted({*native} ^ {*emulated})]
    if wrong:
        return Row(what, False, f"failed: {', '.join(wrong[:5])}")
    return Row(what, bool(native), f"{len(native)} checks true on both" if native else NOTHING)


def compare_modules(native: Facts, emulated: Facts) -> Row:
    """Modules: the same ones, with the same outcome; only training may want what is not there."""
    row = compare_facts("modules import", native, emulated)
    errors = {n: f for n, f in emulated.items() if f != "imported" and not f.startswith("needs ")}
    if not row.is_equal or errors:
        failed = ", ".join(f"{name}: {fact}" for name, fact in list(errors.items())[:3])
        return Row(row.what, False, failed or row.detail)
    left = [name for name, fact in emulated.items() if fact != "imported"]
    rest = f"; not in the dependencies: {', '.join(left)}" if left else ""
    return Row(row.what, True, f"{len(emulated) - len(left)} modules on both{rest}")


def compare_messages(what: str, native: Facts, emulated: Facts) -> list[Row]:
    """Channels of recordings, message by message by their digests. Reported, not required: they
    hold pictures and floating point of other libraries."""
    rows = []
    for topic in sorted({*native, *emulated}):
        one, other = native.get(topic, []), emulated.get(topic, [])
        same = sum(a == b for a, b in zip(one, other, strict=False))
        most = max(len(one), len(other))
        detail = f"{same} of {most} messages the same bytes"
        rows.append(Row(f"{what}: {topic}", same == most, detail, is_required=False))
    return rows


def compare_detections(
    what: str,
    native: Sequence[Facts],
    emulated: Sequence[Facts],
    allowed: Tolerance = SAME_INPUT,
    *,
    is_required: bool = True,
) -> Row:
    """Labels in order of score, boxes in px and scores within the tolerance."""
    if len(native) != len(emulated):
        detail = f"{len(native)} frames natively, {len(emulated)} emulated"
        return Row(what, False, detail, is_required)
    box = score = 0.0
    count = 0
    for frame, (one, other) in enumerate(zip(native, emulated, strict=True)):
        if one["labels"] != other["labels"]:
            detail = f"frame {frame}: {one['labels']} | {other['labels']}"
            return Row(what, False, detail, is_required)
        count += len(one["labels"])
        for a, b in zip(one["boxes"], other["boxes"], strict=True):
            box = max([box, *(_apart(x, y) for x, y in zip(a, b, strict=True))])
        pairs = zip(one["scores"], other["scores"], strict=True)
        score = max([score, *(_apart(x, y) for x, y in pairs)])
    return Row(
        what,
        count > 0 and box <= allowed.box_px and score <= allowed.score,
        f"{count} objects on {len(native)} frames, the same labels; largest difference "
        f"{box:.2g} px (allowed {allowed.box_px:g}) and {score:.2g} of a score "
        f"(allowed {allowed.score:g})",
        is_required,
        is_rough=True,
    )


def _apart(x: float, y: float) -> float:
    difference = abs(x - y)
    return difference if difference == difference else float("inf")  # NaN is far from everything


def compare_replay(where: str, replayed: Facts, maker: Facts) -> list[Row]:
    """What one machine replayed of the other's recordings, against what those sent."""
    rows = []
    for name, report in replayed.items():
        recording, _, mode = name.partition(", ")
        row = compare_bytes("", maker[recording]["actuator"], report["sent"])
        detail = f"{report['firings']} firings, {report['differing']} differ; {row.detail}"
        if report["differences"]:
            detail += f"; first: {report['differences'][0]}"
        is_equal = row.is_equal and report["ok"]
        rows.append(Row(f"{mode} replay of `{recording}` {where}", is_equal, detail, MODES[mode]))
    return rows


def compare(native: Facts, emulated: Facts, back: Facts) -> list[Row]:
    """All rows. `back` is what the native machine replayed of the emulated recordings."""
    rows = [
        compare_modules(native["imports"], emulated["imports"]),
        compare_checks("requirements met", native["dependencies"], emulated["dependencies"]),
        compare_checks("machine recognised", native["recognised"], emulated["recognised"]),
        compare_facts("quantities and durations", native["units"], emulated["units"]),
        compare_checks("guard traces", native["guard traces"], emulated["guard traces"]),
        compare_checks("servo codec vectors", native["servo codec"], emulated["servo codec"]),
        compare_checks("command line", native["command line"], emulated["command line"]),
    ]
    for name, data in native["messages"].items():
        rows.append(compare_bytes(f"message {name}", data, emulated["messages"].get(name, "")))
    for name in ("ideal", "demo"):
        one, other = native[name], emulated[name]
        must = name == "ideal"
        hashes = [{"plan": side["plan_hash"]} for side in (one, other)]
        rows.append(compare_facts(f"`{name}`: hash of the plan", *hashes))
        rows.append(
            compare_bytes(
                f"`{name}`: bytes to the servos", one["actuator"], other["actuator"],
                is_required=must,
            )
        )  # fmt: skip
        for topic in sorted({*one["lanes"], *other["lanes"]}):
            data = [side["lanes"].get(topic, "") for side in (one, other)]
            rows.append(compare_bytes(f"`{name}`: {topic}", *data, is_required=must))
        rows += compare_messages(f"`{name}`", one["messages"], other["messages"])
    for key, what, allowed, must in (
        ("detections", "part detector on the same pictures", SAME_INPUT, True),
        ("detections, resized", "part detector on one that it resizes", RESIZED, False),
    ):
        rows.append(compare_detections(what, native[key], emulated[key], allowed, is_required=must))
    rows += compare_replay("recorded natively, emulated", emulated["replay"], native)
    rows += compare_replay("recorded emulated, natively", back["replay"], emulated)
    what = "functions of the C library, numpy, OpenCV, by digest"
    digests = [side["arithmetic"] for side in (native, emulated)]
    rows.append(compare_facts(what, *digests, is_required=False))
    packages = [side["identity"]["packages"] for side in (native, emulated)]
    rows.append(compare_facts("versions of the packages", *packages, is_required=False))
    return rows
