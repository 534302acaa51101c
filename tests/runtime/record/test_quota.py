"""The quota of a folder: what goes, what never does, and where a recording ends."""

import fcntl
import logging
import os
from pathlib import Path

import pytest
from tests.runtime.record.test_recorder import header

from haihe.runtime.errors import ContractError
from haihe.runtime.record.packer import McapPacker
from haihe.runtime.record.quota import STEP, Quota, recordings_in, size_bytes
from haihe.runtime.record.recorder import Recorder
from haihe.runtime.record.recording import Recording

KB = 1000


def old(path: Path, size: int, age_s: int) -> Path:
    """A recording of about that size, last changed so long ago."""
    with McapPacker(path) as packer:
        packer.append(packer.add_channel("haihe/note/x", "json"), 0, 0, 0, bytes(size))
    t = path.stat().st_mtime - age_s
    os.utime(path, (t, t))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2_000_000_000), ("1.5 MB", 1_500_000), ("4KiB", 0), ("4kiB", 4096), ("2GiB", 2 << 30),
     ("7B", 7), ("1TB", 10**12)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    if size:
        assert size_bytes(text) == size
    else:
        with pytest.raises(ContractError):
            size_bytes(text)


@pytest.mark.parametrize("text", ["", "2", "GB", "-1GB", "0MB", "2 gb", "2iB", "1e9B", "2GBs"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ContractError) as caught:
        size_bytes(text, "quota")
    assert str(caught.value) == (
        f"quota {text!r} is not a size. Write a number and a unit, as in 2GB."
    )


def test_the_oldest_go_until_the_new_one_fits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, age_s in (("b", 30), ("a", 20), ("c", 10)):
        old(tmp_path / f"{name}.mcap", 100 * KB, age_s)
    quota = Quota(tmp_path, 400 * KB)
    granted = quota.grant(tmp_path / "new.mcap", 150 * KB)
    assert names(tmp_path) == ["a.mcap", "c.mcap"]
    left = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert granted == 400 * KB - left >= 150 * KB
    message = caplog.records[0].getMessage()
    assert message.startswith(f"recording {tmp_path / 'b.mcap'} removed (100")
    assert message.endswith(f"bytes): the quota of {tmp_path} is {400 * KB} bytes")


def test_room_is_granted_in_steps_and_removes_nothing_for_what_is_not_wanted(
    tmp_path: Path,
) -> None:
    old(tmp_path / "a.mcap", 100 * KB, 10)
    assert Quota(tmp_path, 1 << 30).grant(tmp_path / "new.mcap", 5) == STEP + 5
    assert names(tmp_path) == ["a.mcap"]


def test_only_files_that_haihe_made_are_counted_and_removed(tmp_path: Path) -> None:
    ours = old(tmp_path / "ours.mcap", 10 * KB, 10)
    with McapPacker(tmp_path / "theirs.mcap", profile="ros2") as packer:
        packer.append(packer.add_channel("x"), 0, 0, 0, bytes(10 * KB))
    (tmp_path / "text.mcap").write_text("no recording at all")
    (tmp_path / "empty.mcap").write_bytes(b"")
    (tmp_path / "copy.bak").write_bytes(ours.read_bytes())
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "other.mcap").write_bytes(ours.read_bytes())
    (tmp_path / "link.mcap").symlink_to(tmp_path / "deeper" / "other.mcap")
    assert [one.path.name for one in recordings_in(tmp_path)] == ["ours.mcap"]
    before = names(tmp_path)
    assert Quota(tmp_path, 1).grant(tmp_path / "new.mcap", 10) == 1
    assert names(tmp_path) == [name for name in before if name != "ours.mcap"]
    assert (tmp_path / "deeper" / "other.mcap").exists()
    assert recordings_in(tmp_path / "nowhere") == []


def test_a_file_that_is_being_written_stays_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "live.mcap"
    with McapPacker(path) as packer:
        packer.append(packer.add_channel("haihe/note/x"), 0, 0, 0, bytes(10 * KB))
        os.utime(path, (1, 1))
        assert Quota(tmp_path, 5 * KB).grant(tmp_path / "new.mcap", 4 * KB) < 5 * KB
        assert names(tmp_path) == ["live.mcap"]
    with open(path, "rb") as file:  # as another process that finishes it would
        fcntl.flock(file, fcntl.LOCK_EX)
        Quota(tmp_path, 5 * KB).grant(tmp_path / "new.mcap", 4 * KB)
        assert names(tmp_path) == ["live.mcap"]
    Quota(tmp_path, 5 * KB).grant(tmp_path / "new.mcap", 4 * KB)
    assert names(tmp_path) == []


def test_a_recording_that_alone_exceeds_the_quota_ends_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older = old(tmp_path / "older.mcap", 100 * KB, 10)
    limit = 2000 * KB
    path = tmp_path / "new.mcap"
    recorder = Recorder(path, header(), quota=Quota(tmp_path, limit))
    sent = 100
    for number in range(sent):
        recorder.append("haihe/note/x", number, number, number, bytes(100 * KB))
    recorder.close()
    assert not older.exists()
    assert path.stat().st_size <= limit
    assert path.stat().st_size > limit - 1200 * KB  # a write is a block of a megabyte
    messages = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(messages) == 1
    assert messages[0].startswith(f"recording {path}: it ends here, at ")
    assert messages[0].endswith(
        f" bytes: it may have {limit} by the quota of its folder. What comes is counted as lost; "
        "raise the quota, or record less."
    )
    with open(path, "rb") as file:
        kept = file.read().count(bytes(100 * KB))
    assert kept + recorder.lost == sent
    assert 0 < recorder.lost < sent


def test_what_a_quota_cut_opens_as_cut(tmp_path: Path) -> None:
    path = tmp_path / "new.mcap"
    recorder = Recorder(path, header(), quota=Quota(tmp_path, 1500 * KB))
    for number in range(40):
        recorder.note("x", {"n": number, "pad": "x" * 100 * KB}, number)
    recorder.close()
    read = Recording(path)
    assert not read.complete
    assert 0 < len(read.note_log["x"]) < 40
    assert len(read.note_log["x"]) + recorder.lost == 40


def test_where_both_do_not_fit_the_rewritten_file_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "haihe.runtime.record.recorder")
    path = tmp_path / "new.mcap"
    recorder = Recorder(path, header(), quota=Quota(tmp_path, 300 * KB))
    recorder.note("x", {"pad": "x" * 200 * KB}, 1)
    recorder.close()
    assert caplog.records[-1].getMessage() == (
        f"recording {path}: left as it was written, not compressed and indexed: the quota has no "
        "room for both. Move it, then run: haihe rec fix new.mcap"
    )
    assert recorder.lost == 0
    assert Recording(path).complete
