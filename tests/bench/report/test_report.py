"""The summary fits the screen; the report is one whole file."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import pytest
from tests.bench import incident_app

from haihe.bench.measure.analysis import analyse
from haihe.bench.report import picture
from haihe.bench.report.html import write_report
from haihe.bench.report.plot import Plot, thin, ticks
from haihe.bench.report.summary import HEIGHT, WIDTH, summary
from haihe.drivers.roles import camera, servos
from haihe.pipelines.launch import simulate
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector
from haihe.runtime.contracts import aligned
from haihe.runtime.errors import RecordError
from haihe.runtime.graph import Graph
from haihe.runtime.node import node
from haihe.runtime.record.recording import Recording
from haihe.runtime.types import Detections, Image, Intrinsics, encode

VOID = {"meta", "path", "rect", "image", "br"}


def follow() -> Graph:
    with Graph("follow") as g:
        cam, neck = camera("front"), servos("neck")
        neck.command(Pursue()(ideal_detector(cam.image), neck.state))
    return g


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("report") / "run.mcap"
    simulate(
        follow(), "20s", unit="pan-tilt", world={"ideal": True, "latency_ms": 50.0},
        budgets={"ideal_detector": "10ms"}, record=made, frames="lossless",
    )  # fmt: skip
    return made


def with_truth(path: Path) -> Recording:
    """The recording with a made-up truth, pictures and detections, as a rendered world gives."""
    recording = Recording(path)
    start = recording.lanes["every-20ms"][1].fixed[1]
    errors = np.radians(np.linspace(3.0, 0.5, 2000))
    rows = [[start + 10_000_000 * i, float(e)] for i, e in enumerate(errors)]
    recording.notes["truth"] = {"names": ["t_ns", "error"], "rows": rows}
    lens = Intrinsics(64, 48, 50.0, 50.0, 31.5, 23.5)
    shot = Image(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8), lens)
    found = Detections(
        np.array([[10, 12, 30, 32]], np.float32), np.array([0.875], np.float32),
        np.array([0]), ("<washer>",), lens,
    )  # fmt: skip
    for record in recording.streams["front.image"]:
        record.data = encode(shot)
    recording.outputs["ideal_detector"] = dict.fromkeys(range(1, 700), encode(found))
    plan: Any = recording.header["plan"]
    for lane in plan["lanes"]:
        for step in lane["task"]["steps"]:
            step["recorded"] = True
    import msgspec

    recording.plan = msgspec.convert(plan, type(recording.plan))
    return recording


class Checker(HTMLParser):
    """Every element is closed in order; collects text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [v or "" for k, v in attrs if k in ("href", "src", "xlink:href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [v or "" for k, v in attrs if k in ("href", "src", "xlink:href")]

    def handle_endtag(self, tag: str) -> None:
        # a rect may hold a title: then it was not void
        if tag in VOID:
            return
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data


def read(recording: Recording, out: Path) -> Checker:
    write_report(recording, out)
    html = out.read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(|<link|<iframe", html)
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert all(a.startswith("data:image/jpeg;base64,") for a in checker.addresses)
    return checker


def on_one_screen(text: str) -> bool:
    lines = text.splitlines()
    return len(lines) <= HEIGHT and max(map(len, lines)) <= WIDTH


def test_summary_says_what_matters_on_one_screen(path: Path) -> None:
    text = summary(with_truth(path))
    assert on_one_screen(text)
    assert "follow on pan-tilt" in text
    assert "front: delivery" in text
    assert "50.0 ms" in text
    assert "10.0 ms" in text
    assert re.search(r"tracking error +rms \d\.\d\d°", text)
    assert re.search(r"glass to servo +p50 [\d.]+ ms +p95 [\d.]+ ms +p99 [\d.]+ ms", text)
    assert "trip end of the simulation" in text
    assert str(path.name) in text or "…" in text


def test_summary_of_a_short_run_refuses_its_p99(tmp_path: Path) -> None:
    simulate(
        follow(), "2s", unit="pan-tilt", world={"ideal": True}, record=tmp_path / "a.mcap",
        frames="none",
    )  # fmt: skip
    text = summary(Recording(tmp_path / "a.mcap"))
    assert on_one_screen(text)
    assert re.search(r"p99 too few \(\d+ of 459\)", text)
    assert "frames were not kept" in text


def test_what_a_full_queue_refused_is_told(tmp_path: Path) -> None:
    made = tmp_path / "run.mcap"
    simulation = incident_app.record(incident_app.chained, made, budgets={"keep": "60ms"})
    recording = Recording(made)
    (edge,) = [e for e in analyse(recording).edges if e.edge.kind == "fifo"]
    (live,) = [
        live
        for plan, live in zip(recording.plan.edges, simulation.executor.assembly.edges, strict=True)
        if plan.kind == "fifo"
    ]
    assert (edge.received, edge.overwritten) == (live.received, 0)
    assert edge.refused == live.last - live.received > 10
    assert 0 <= live.refused - edge.refused <= 3  # since the last that was read
    (row,) = [line for line in summary(recording).splitlines() if "not as usual" in line]
    assert f"keep.parts {edge.refused} refused" in row
    assert "not triggered" not in row
    page = tmp_path / "report.html"
    write_report(recording, page)
    told = re.sub(r"<[^>]+>", " ", page.read_text("utf-8"))
    assert f"part → keep.parts  fifo  {edge.received}  0  {edge.refused}  0  " in told


@node(on="image")
def pair(image: Image, parts: Annotated[Detections, aligned("1ms")]) -> Detections:
    return parts


def test_a_node_without_an_aligned_message_is_not_as_usual(tmp_path: Path) -> None:
    with Graph("pairs") as pairs:
        cam, neck = camera("front"), servos("neck")
        found = ideal_detector(cam.image)  # a frame later than the image that triggers
        neck.command(Pursue()(pair(cam.image, found), neck.state))
        pairs.thread("beside", found)
    made = tmp_path / "run.mcap"
    simulate(
        pairs, "1s", unit="pan-tilt", world={"ideal": True}, record=made,
        budgets={"ideal_detector": "10ms"},
    )  # fmt: skip
    (row,) = [line for line in summary(Recording(made)).splitlines() if "not as usual" in line]
    assert "pair 29 unaligned" in row


def test_report_is_whole_and_shows_the_figures(path: Path, tmp_path: Path) -> None:
    recording = with_truth(path)
    run = analyse(recording)
    seen = read(recording, tmp_path / "report.html")
    assert run.tracking is not None
    assert f"{run.tracking.rms:.2f}° rms" in seen.text
    assert "front.image → ideal_detector → Pursue → neck" in seen.text
    assert str(recording.header["plan_hash"]) in seen.text
    assert "50.0 ms" in seen.text
    assert len(seen.addresses) == 8
    assert "<washer> 0.88" in seen.text
    assert "virtual time" in seen.text


def test_report_without_truth_and_pictures(path: Path, tmp_path: Path) -> None:
    recording = Recording(path)
    del recording.notes["truth"]  # as on real devices
    seen = read(recording, tmp_path / "report.html")
    assert seen.addresses == []
    assert "Tracking error" not in seen.text
    assert "no truth of a simulated world" in seen.text


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A recording as a kill leaves it: not rewritten, not indexed."""
    made = tmp_path_factory.mktemp("raw") / "run.mcap"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("haihe.runtime.record.fix.finish", lambda path: None)
        simulate(follow(), "4s", unit="pan-tilt", world={"ideal": True}, record=made)
    return made.read_bytes()


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_recording_says_so(raw: bytes, tmp_path: Path, share: float) -> None:
    cut = tmp_path / "cut.mcap"
    # the header is some 6 kB: from there to the end
    cut.write_bytes(raw[: 6000 + int(share * (len(raw) - 6000))])
    recording = Recording(cut)
    text = summary(recording)
    assert on_one_screen(text)
    assert "cut off" in text
    seen = read(recording, tmp_path / "report.html")
    assert "its end is cut off" in seen.text


def test_the_picture_has_its_size(path: Path, tmp_path: Path) -> None:
    drawn = picture.draw(analyse(with_truth(path)))
    assert drawn.shape == (picture.HEIGHT, picture.WIDTH, 3)
    assert drawn.std() > 10
    assert picture.main([]) == 2
    with pytest.raises(RecordError, match=r"no camera frames in it\. Record with frames='jpeg'"):
        picture.main([str(path), str(tmp_path / "out.png")])
    assert cv2.imencode(".png", drawn)[0]


def test_ticks_are_round_and_inside() -> None:
    assert [text for _, text in ticks(0.0, 20.0, 4)] == ["0", "5", "10", "15", "20"]
    assert [text for _, text in ticks(0.0, 0.3, 3)] == ["0", "0.1", "0.2", "0.3"]
    assert ticks(1.0, 1.0, 4) == [(1.0, "1")]


def test_thinning_keeps_the_extremes() -> None:
    xs = np.arange(10_000, dtype=np.float64)
    ys = np.zeros(10_000)
    ys[1234], ys[8765] = 7.0, -3.0
    thin_x, thin_y = thin(xs, ys, 400)
    assert len(thin_x) <= 400
    assert (thin_y.max(), thin_y.min()) == (7.0, -3.0)
    assert (np.diff(thin_x) > 0).all()


def test_labels_are_escaped() -> None:
    plot = Plot((0.0, 1.0), (0.0, 1.0), "s", "y")
    plot.mark(0.5, "<b>")
    assert "<b>" not in plot.html()
