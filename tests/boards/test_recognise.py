"""Recognition: every board of the reference's A2, machines that nobody knows, spoilt files."""

import random
from pathlib import Path

import pytest
from tests.boards.machines import KINDS, SPOILS, Kind, arm_cpuinfo, make, mutate, write

from haihe.boards.compute_profile import all_profiles
from haihe.boards.cores import cpu_list
from haihe.boards.doctor import examine
from haihe.boards.machine import read_state
from haihe.boards.recognise import recognise
from haihe.boards.root_files import LIMIT, RootFiles

BY_NAME = {kind.name: kind for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_board_of_the_reference_resolves(kind: Kind, tmp_path: Path) -> None:
    found = recognise(make(tmp_path, kind))
    assert (found.board, found.certainty) == (kind.profile, kind.certainty), found.why
    assert found.machine == kind.machine
    assert found.memory_bytes == 8_000_000 * 1024
    assert not found.is_emulated
    assert not found.notes


def test_every_profile_but_the_generic_ones_has_a_machine_in_these_tests() -> None:
    untested = {p.board for p in all_profiles()[0]} - {kind.profile for kind in KINDS}
    assert untested == {"generic"}


def test_the_most_specific_entry_decides_and_entries_are_compared_whole(tmp_path: Path) -> None:
    kind = Kind("", "", ("xunlong,orangepi-5-plus-2", "acme,radxa,rock3a", "rockchip,rk3588"))
    found = recognise(make(tmp_path, kind))
    assert (found.board, found.is_exact) == ("rk3588", False)
    assert found.why == "compatible rockchip,rk3588, the chip; the board is not known"


def test_a_name_in_etc_goes_before_everything(tmp_path: Path) -> None:
    root = make(tmp_path, BY_NAME["rpi4"])
    write(root, "/etc/haihe/board", "rk3568\n")
    found = recognise(root)
    assert (found.board, found.why) == ("rk3568", "/etc/haihe/board says rk3568")


def test_a_wrong_name_in_etc_is_said_and_passed_over(tmp_path: Path) -> None:
    root = make(tmp_path, BY_NAME["rpi4"])
    write(root, "/etc/haihe/board", "rpi-4\n")
    found = recognise(root)
    assert found.board == "rpi4"
    assert found.notes == [
        "/etc/haihe/board says 'rpi-4', which is no profile. Did you mean 'rpi4'?"
    ]


def test_an_unknown_machine_gets_a_generic_profile_and_a_useful_line(tmp_path: Path) -> None:
    found = recognise(make(tmp_path, BY_NAME["a jetson that nobody knows"]))
    assert found.board == "generic-aarch64"
    assert found.why == (
        "no profile knows this machine (compatible nvidia,tegra999; model Jetson of tomorrow). To "
        "name it: a profile's name in /etc/haihe/board, or a new boards/compute/NAME.yaml"
    )


def test_an_empty_root_is_a_machine_that_says_nothing(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        found = recognise(root)
        assert found.board == "generic"
        assert found.why.startswith("no profile knows this machine (it says nothing).")
        assert found.describe()


def test_texts_of_a_machine_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    kind = Kind("", "", ("evil\x1b[2J,board",), "a\x1b]0;b\x07\nc")
    text = recognise(make(tmp_path, kind)).describe()
    assert "\x1b" not in text
    assert "\x07" not in text


@pytest.mark.parametrize(
    ("capacities", "clocks", "parts", "big", "little"),
    [
        ([530] * 4 + [1024] * 4, [], [], "4-7", "0-3"),
        ([], [1_800_000] * 4 + [2_400_000] * 4, [], "4-7", "0-3"),
        ([], [], [0xD05] * 4 + [0xD0B] * 4, "4-7", "0-3"),
        ([], [1_958_400] * 4 + [2_400_000] * 3 + [2_707_200],
         [0xD05] * 4 + [0xD41] * 4, "4-7", "0-3"),  # RB3 Gen 2: one class of A78
        ([], [1_800_000] * 2 + [1_500_000] * 2, [], "0-1", "2-3"),  # Phytium Pi
        ([], [1_500_000] * 4, [0xD08] * 4, "0-3", ""),
        ([], [4_700_000, 4_800_000], [], "0-1", ""),  # favoured cores of a PC
        ([], [], [], "0-1", ""),
    ],
)  # fmt: skip
def test_cores_come_in_classes(
    capacities: list[int], clocks: list[int], parts: list[int], big: str, little: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    write(tmp_path, "/proc/cpuinfo", arm_cpuinfo(parts))
    for cpu in range(max(len(capacities), len(clocks), len(parts), 2)):
        folder = f"/sys/devices/system/cpu/cpu{cpu}"
        write(tmp_path, f"{folder}/uevent", "")
        for name, values in (("cpu_capacity", capacities), ("cpufreq/cpuinfo_max_freq", clocks)):
            if values:
                write(tmp_path, f"{folder}/{name}", f"{values[cpu]}\n")
    found = recognise(tmp_path)
    assert (cpu_list(found.big_cores), cpu_list(found.little_cores)) == (big, little)


def test_three_classes_have_a_middle(tmp_path: Path) -> None:
    write(tmp_path, "/proc/cpuinfo", arm_cpuinfo([0xD05, 0xD0B, 0xD41]))
    assert [core.size for core in recognise(tmp_path).cores] == ["little", "middle", "big"]


def test_features_are_those_of_every_core(tmp_path: Path) -> None:
    text = arm_cpuinfo([0xD05], "fp asimd asimddp i8mm") + arm_cpuinfo([0xD05], "fp asimd asimddp")
    write(tmp_path, "/proc/cpuinfo", text)
    assert recognise(tmp_path).isa == ["asimd", "asimddp"]


def test_accelerators_are_found_whatever_the_board(tmp_path: Path) -> None:
    write(tmp_path, "/dev/hailo0", "")
    write(tmp_path, "/dev/accel/accel0", "")
    write(tmp_path, "/sys/bus/usb/devices/1-1/idVendor", "18d1\n")
    write(tmp_path, "/sys/bus/usb/devices/1-1/idProduct", "9302\n")
    write(tmp_path, "/dev/dri/renderD129", "")
    link = tmp_path / "sys/class/drm/renderD129/device/driver"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../bus/platform/drivers/RKNPU")
    assert [node.name for node in recognise(tmp_path).accelerators] == [
        "Hailo", "accelerator of the mainline kernel", "Rockchip NPU", "Coral Edge TPU (USB)",
    ]  # fmt: skip


def test_a_guest_and_an_emulated_root_are_noticed(tmp_path: Path) -> None:
    write(tmp_path, "/proc/cpuinfo", "processor: 0\nvendor_id: x\nflags: fpu hypervisor\n")
    assert recognise(tmp_path).is_virtual
    write(tmp_path, "/etc/haihe-emulated", "qemu-user\n")
    found = recognise(tmp_path)
    assert found.is_emulated
    assert found.notes == ["emulated: /etc/haihe-emulated is there"]


def test_this_machine_is_recognised_and_not_emulated() -> None:
    found = recognise()
    assert found.cores
    assert found.memory_bytes > 1 << 26
    assert not found.is_emulated, found.notes


def test_links_stay_inside_the_root(tmp_path: Path) -> None:
    files = RootFiles(tmp_path)
    write(tmp_path, "/inside", "ours")
    for name, target in (("a", "/inside"), ("b", "../../../inside"), ("c", "/../a"), ("d", "d")):
        (tmp_path / name).symlink_to(target)
    assert [files.text(f"/{name}") for name in "abcd"] == ["ours", "ours", "ours", ""]
    assert files.text("/x\0y") == ""
    assert files.text("/" + "x" * 5000) == ""


def test_a_huge_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(1 << 40)
    assert len(RootFiles(tmp_path).data("/huge")) == LIMIT


@pytest.mark.parametrize("error", [PermissionError, BlockingIOError, TimeoutError])
def test_files_that_refuse_to_be_read_are_as_if_missing(
    error: type[OSError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path, BY_NAME["rpi5 with hat"])

    def refuse(*arguments: object) -> bytes:
        raise error(13, "refused")

    for name in ("open", "read", "scandir"):
        with monkeypatch.context() as patch:
            patch.setattr(f"haihe.boards.root_files.os.{name}", refuse)
            assert recognise(root).board in ("generic", "generic-aarch64", "rpi5", "rpi5-hailo")
            assert read_state(root).temperature_degc == {}


def test_500_spoilt_roots_never_raise(tmp_path: Path) -> None:
    used = set()
    roots = [make(tmp_path / str(number), kind) for number, kind in enumerate(KINDS)]
    for seed in range(500):
        dice = random.Random(seed)
        root = dice.choice(roots)
        done, undo = mutate(root, dice)
        used |= {text.split()[0] for text in done}
        try:
            found = recognise(root)
            found.describe()
            read_state(root)
            if seed % 5 == 0:
                examine(root).describe()
        except BaseException as exc:
            exc.add_note(f"seed {seed}: {done}")
            raise
        assert found.board
        assert found.why
        for restore in undo:
            restore()
    assert used == set(SPOILS)
    assert [recognise(root).board for root in roots] == [kind.profile for kind in KINDS]
