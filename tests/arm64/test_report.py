"""The judge of `make arm64`: equal, the first difference named, tolerances, what is required."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.arm64 import run
from tests.arm64.compare import (
    NOTHING,
    RESIZED,
    compare,
    compare_bytes,
    compare_checks,
    compare_detections,
    compare_facts,
    compare_messages,
    compare_modules,
    compare_replay,
)


def found(*scores: float, box: float = 10.0) -> dict[str, Any]:
    return {
        "labels": ["washer"] * len(scores),
        "boxes": [[box, 2.0, 30.0, 40.0]] * len(scores),
        "scores": list(scores),
    }


def simulated(actuator: str) -> dict[str, Any]:
    return {
        "actuator": actuator, "exchanges": 2, "firings": 3, "first": "ffff", "last": "fffe",
        "plan_hash": "ab", "lanes": {"haihe/lane/fast": "0102"},
        "messages": {"haihe/stream/front.image": ["aa", "bb"]},
    }  # fmt: skip


def replayed(sent: str) -> dict[str, Any]:
    return {"ok": True, "firings": 3, "differing": 0, "differences": [], "sent": sent}


def facts(machine: str = "x86_64") -> dict[str, Any]:
    """What a probe writes, small."""
    replays = {"ideal, decision": "0a0b", "demo, decision": "0c", "demo, perception": "0c"}
    return {
        "identity": {
            "machine": machine, "python": "3.11.2", "system": "glibc 2.36",
            "haihe_from": "/a/b", "packages": {"haihe": "0.1.0", "numpy": "2.4.6"},
        },
        "imports": {"haihe": "imported", "haihe.models.training.x": "needs torch"},
        "dependencies": {"numpy": True},
        "recognised": {"machine": True},
        "units": {"20ms": 20_000_000},
        "guard traces": {"a": True},
        "servo codec": {"ping": True},
        "command line": {"rec info": True},
        "messages": {"Reading": "82"},
        "ideal": simulated("0a0b"),
        "demo": simulated("0c"),
        "detections": [found(0.9)],
        "detections, resized": [found(0.9)],
        "arithmetic": {"sin": "aa"},
        "replay": {name: replayed(sent) for name, sent in replays.items()},
        "seconds": {"ideal": 1.5},
    }  # fmt: skip


def test_equal_bytes_come_with_their_digest() -> None:
    row = compare_bytes("x", "0102", "0102")
    assert (row.is_equal, row.verdict) == (True, "equal")
    assert row.detail.startswith("2 bytes, SHA-256 a12871fee210fb8619291eaea194581c")


@pytest.mark.parametrize(
    ("native", "emulated", "detail"),
    [
        ("0102030405", "0102ff0405", "from byte 2 on: 03 04 05 natively, ff 04 05 emulated (5 and"),
        ("0102", "010203", "from byte 2 on: the end natively, 03 emulated (2 and 3 bytes)"),
        ("01", "", "from byte 0 on: 01 natively, the end emulated (1 and 0 bytes)"),
    ],
)
def test_the_first_byte_that_differs_is_named(native: str, emulated: str, detail: str) -> None:
    row = compare_bytes("x", native, emulated)
    assert (row.is_equal, row.verdict) == (False, "**DIFFERENT**")
    assert row.detail.startswith(detail)


def test_nothing_on_both_sides_is_no_proof() -> None:
    for row in (
        compare_bytes("x", "", ""),
        compare_facts("x", {}, {}),
        compare_checks("x", {}, {}),
    ):
        assert not row.is_equal
        assert row.detail == NOTHING
    assert not compare_detections("x", [], []).is_equal
    assert not compare_detections("x", [found()], [found()]).is_equal


def test_values_that_differ_are_named() -> None:
    row = compare_facts("x", {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5}, is_required=False)
    assert row.verdict == "differs"
    assert row.detail == "2 of 3 (native | emulated): b: 2 | 5; c: 3 | none"


def test_a_check_must_be_true_on_both() -> None:
    row = compare_checks("x", {"a": True, "b": False}, {"a": True, "c": True})
    assert row.detail == "failed: b (native), b (on one only), c (on one only)"
    assert not compare_checks("x", {"a": False}, {"a": False}).is_equal


def test_a_module_that_fails_on_both_is_a_failure() -> None:
    broken = {"haihe": "imported", "haihe.x": "ImportError('no y')"}
    row = compare_modules(broken, broken)
    assert (row.is_equal, row.detail) == (False, "haihe.x: ImportError('no y')")
    one_only = compare_modules({"haihe": "imported"}, {"haihe": "needs torch"})
    assert not one_only.is_equal
    row = compare_modules(facts()["imports"], facts()["imports"])
    assert row.detail == "1 modules on both; not in the dependencies: haihe.models.training.x"


@pytest.mark.parametrize(
    ("other", "is_equal"),
    [
        (found(0.9, box=10.009), True),
        (found(0.9, box=10.011), False),
        (found(0.9 + 0.9e-4), True),
        (found(0.9 - 1.1e-4), False),
        (found(0.9, box=float("nan")), False),
        (found(0.9, 0.5), False),
    ],
)
def test_detections_within_the_tolerance(other: dict[str, Any], is_equal: bool) -> None:
    row = compare_detections("x", [found(0.9)], [other])
    assert row.is_equal is is_equal
    assert row.verdict == ("within tolerance" if is_equal else "**DIFFERENT**")


def test_the_largest_difference_is_stated() -> None:
    row = compare_detections("x", [found(0.9)], [found(0.91, box=10.25)], RESIZED)
    assert row.detail == (
        "1 objects on 1 frames, the same labels; largest difference 0.25 px (allowed 0.5) and 0.01 "
        "of a score (allowed 0.02)"
    )
    assert compare_detections("x", [found(0.9)], []).detail == "1 frames natively, 0 emulated"


def test_messages_are_counted_and_decide_nothing() -> None:
    row, missing = compare_messages("demo", {"a": ["1", "2"], "b": ["3"]}, {"a": ["1", "9", "4"]})
    assert (row.what, row.detail) == ("demo: a", "1 of 3 messages the same bytes")
    assert (row.is_required, row.is_equal, missing.is_equal) == (False, False, False)


def test_a_replay_must_send_what_was_recorded() -> None:
    maker = {"ideal": {"actuator": "0102"}, "demo": {"actuator": "03"}}
    bad = replayed("0102") | {"ok": False, "differing": 1, "differences": ["lane a, firing 7: b"]}
    rows = compare_replay(
        "there",
        {"ideal, decision": bad, "demo, decision": replayed("04"), "demo, perception": bad},
        maker,
    )
    assert [(row.is_equal, row.is_required) for row in rows] == [
        (False, True),
        (False, True),
        (False, False),
    ]
    assert rows[0].detail.endswith("first: lane a, firing 7: b")
    assert rows[1].what == "decision replay of `demo` there"


def test_equal_sides_are_all_equal_and_the_report_says_so() -> None:
    native, emulated = facts(), facts("aarch64")
    rows = compare(native, emulated, facts())
    assert [row.what for row in rows if not row.is_equal] == []
    text = run.markdown(rows, native, emulated, "2026-01-02")
    assert "`make arm64`, 2026-01-02. All that must be equal is." in text
    assert "| machine | x86_64 | aarch64 |" in text
    assert "| `ideal`: bytes to the servos | equal | 2 bytes, SHA-256 " in text
    assert "Emulated, never a latency" in text
    data = json.loads(json.dumps(run.document(rows, native, emulated, "2026-01-02")))
    assert data["ok"] is True
    assert data["to_the_servos"]["ideal"]["emulated"]["bytes"] == 2
    assert data["seconds_emulated_never_a_latency"] == {"ideal": 1.5}
    assert "/a/b" not in text + json.dumps(data)  # no paths of this machine


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        (("ideal", "actuator"), "0a0c", "`ideal`: bytes to the servos"),
        (("ideal", "lanes", "haihe/lane/fast"), "0103", "`ideal`: haihe/lane/fast"),
        (("messages", "Reading"), "83", "message Reading"),
        (("guard traces", "a"), False, "guard traces"),
        (("demo", "plan_hash"), "cd", "`demo`: hash of the plan"),
        (("replay", "demo, decision", "sent"), "0d", "decision replay of `demo` recorded natively"),
    ],
)
def test_each_required_difference_is_red(path: tuple[str, ...], value: Any, what: str) -> None:
    native, emulated = facts(), facts("aarch64")
    place: Any = emulated
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    rows = compare(native, emulated, facts())
    wrong = [row.what for row in rows if row.is_required and not row.is_equal]
    assert any(name.startswith(what) for name in wrong), wrong
    assert "required comparisons differ.**" in run.markdown(rows, native, emulated, "today")
    assert run.document(rows, native, emulated, "today")["ok"] is False


def test_a_difference_of_the_rendered_demo_is_only_reported() -> None:
    native, emulated = facts(), facts("aarch64")
    emulated["demo"]["actuator"] = "0d"
    emulated["demo"]["messages"]["haihe/stream/front.image"] = ["cc", "dd"]
    emulated["arithmetic"]["sin"] = "bb"
    back = facts()
    for name in ("demo, decision", "demo, perception"):
        back["replay"][name]["sent"] = "0d"  # what the emulated machine recorded
    rows = compare(native, emulated, back)
    assert [row.what for row in rows if not row.is_equal] == [
        "`demo`: bytes to the servos",
        "`demo`: haihe/stream/front.image",
        "functions of the C library, numpy, OpenCV, by digest",
    ]
    assert run.document(rows, native, emulated, "today")["ok"] is True


def test_the_checkout_instead_of_the_wheel_proves_nothing() -> None:
    with pytest.raises(run.Failed, match=r"^native: haihe came from /a/b, expected the wheel in"):
        run.check_sides(facts(), facts(), Path("/c"))


def test_without_tools_it_is_skipped_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import shutil

    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "mkdir", "mktemp", "rm"):
        found_at = shutil.which(name)
        assert found_at is not None
        (tools / name).symlink_to(found_at)
    (tools / "id").write_text("#!/usr/bin/env bash\necho 1000\n", "ascii")
    (tools / "id").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("HAIHE_ARM64_ROOT", str(tmp_path / "cache"))
    assert run.main(["--out", str(tmp_path / "out")]) == 0
    assert capfd.readouterr().out == (
        "SKIPPED: qemu-user and debootstrap are not installed, and this is not root (arm64 was "
        "not proven)\n"
    )
    assert not (tmp_path / "out").exists()
