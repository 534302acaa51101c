"""Compute profiles: each is sound, unique in its strings, and in the page."""

import re
from collections import Counter
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from tests.boards.machines import write

from haihe.boards import table
from haihe.boards.compute_profile import ComputeProfile, all_profiles, find_profile, load_profile
from haihe.boards.recognise import recognise
from haihe.runtime import registry
from haihe.runtime.errors import BoardError

PROFILES, PROBLEMS = all_profiles()
TAGS = re.compile(r"\[[VSG]\b")


def test_every_profile_can_be_read() -> None:
    assert PROBLEMS == ()
    assert len(PROFILES) >= 24


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.board)
def test_a_profile_is_sound(profile: ComputeProfile) -> None:
    assert profile.about
    assert profile.source
    assert profile.board == profile.where.file.rpartition("/")[2].removesuffix(".yaml")
    assert not profile.proven_on_hardware, "only a report of hw-accept may say so"
    text = table.describe(profile)
    assert text.count("unconfirmed") >= len({mark.split(".")[0] for mark in profile.unconfirmed})
    assert not TAGS.search(text), "tags of the reference are spelt out as `unconfirmed`"
    for core in profile.cores:
        assert core.count > 0
        assert all(0.1 < ghz < 6 for ghz in core.ghz)
    if profile.is_host and profile.backends:
        assert profile.machine in ("aarch64", "x86_64", "loongarch64")


def test_no_string_names_two_boards() -> None:
    plain = [p for p in PROFILES if not p.match.requires]
    entries = Counter(e for p in plain for e in (*p.match.compatible, *p.match.soc))
    names = Counter(text for p in plain for text in (*p.match.model, *p.match.armbian))
    assert [entry for entry, count in (entries + names).items() if count > 1] == []


def test_every_board_of_the_reference_table_has_a_profile() -> None:
    assert {p.board for p in PROFILES} >= {
        "rpi4", "rpi5", "rpi5-hailo", "jetson-orin-nano", "rk3588", "rk3568", "rdk-x3", "rdk-x5",
        "imx8mp", "imx93", "beaglebone-ai64", "kria-kv260", "rb3gen2", "atlas-200i-dk-a2",
        "bm1684x", "milkv-duo", "k230", "coral-dev", "phytium-pi", "loongson-2k", "intel-n100",
        "generic-x86_64", "generic-aarch64", "generic-loongarch64",
    }  # fmt: skip


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(BoardError, match=r"board 'rk3855' is not known\. Did you mean 'rk3588'"):
        find_profile("rk3855")


def _load(tmp_path: Path, text: str) -> ComputeProfile:
    path = tmp_path / "acme.yaml"
    path.write_text(text)
    return load_profile(path)


def test_marks_must_point_at_something(tmp_path: Path) -> None:
    text = "board: acme\nabout: Acme\nsource: [us]\nserial: [{device: ttyS0}]\nmatch: {}\n"
    assert _load(tmp_path, text + "unconfirmed: [serial.0.device]").is_unconfirmed(
        "serial.0.device"
    )
    for mark in ("serial.1", "serial.x", "can", "soc", "serial.0.devise"):
        with pytest.raises(BoardError, match=f"unconfirmed: found '{mark}', expected the path"):
            _load(tmp_path, text + f"unconfirmed: [{mark}]")


def test_an_entry_cut_at_its_comma_is_an_error(tmp_path: Path) -> None:
    text = "board: acme\nabout: Acme\nsource: [us]\nmatch: {compatible: [acme,one]}\n"
    with pytest.raises(BoardError, match="found the entry 'acme', expected vendor,device"):
        _load(tmp_path, text)


def test_a_file_is_named_after_its_board(tmp_path: Path) -> None:
    text = "board: other\nabout: Acme\nsource: [us]\nmatch: {}\n"
    with pytest.raises(BoardError, match=r"acme\.yaml:1:1: board: found 'other', expected 'acme'"):
        _load(tmp_path, text)


def test_a_package_of_others_adds_a_board_and_a_broken_one_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "acme_boards_of_test"
    package.mkdir()
    (package / "__init__.py").touch()
    text = 'board: {}\nabout: Acme\nsource: [us]\nmatch: {{compatible: ["acme,one"]}}\n'
    (package / "acme-one.yaml").write_text(text.format("acme-one"))
    (package / "acme-two.yaml").write_text(text.format("acme-two") + "cars: [can0]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint("acme", "acme_boards_of_test", "haihe.boards")
    monkeypatch.setattr(registry, "_entry_points", lambda group: iter([entry]))
    all_profiles.cache_clear()
    try:
        write(tmp_path / "root", "/proc/device-tree/compatible", "acme,one\0")
        found = recognise(tmp_path / "root")
    finally:
        all_profiles.cache_clear()
    assert (found.board, found.certainty) == ("acme-one", "compatible")
    assert len(found.notes) == 1
    assert "acme-two.yaml:5:1: unknown key 'cars'. Did you mean" in found.notes[0]


def test_the_page_holds_the_table_of_now() -> None:
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.rewritten(page) == page, "run: python -m haihe.boards.table --write"


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(SystemExit, match="put them back"):
        table.rewritten("# Boards\n")
