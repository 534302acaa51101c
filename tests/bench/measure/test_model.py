"""`haihe bench model` from the inside: small models, few runs, no verdict on any time."""

from pathlib import Path

import numpy as np
import pytest
from tests.bench.onnx_file import chain

from haihe.bench.measure.contention import parse_load
from haihe.bench.measure.model import Settings, measure
from haihe.bench.measure.operators import sum_up
from haihe.bench.measure.protocol import Result, from_json, to_json
from haihe.bench.measure.session import fill_open, parse_shape
from haihe.models.backends.ort import CPU
from haihe.runtime.clock import MILLISECOND
from haihe.runtime.errors import ModelError

SHORT = 200 * MILLISECOND


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(chain(tmp_path_factory.mktemp("models") / "chain.onnx", 3, 16))


def test_a_model_without_anything_else(model: str) -> None:
    result = measure(Settings(model, time_limit_ns=SHORT))
    assert result.name == "model chain"
    assert result.command == "haihe bench model chain.onnx"  # no folder: it may name a person
    assert [series.stage for series in result.series] == ["infer"]
    assert len(result.series[0].samples_ns) == len(result.series[0].at_ns) > 0
    assert result.providers == {CPU: 6}
    assert result.settings["provider"] == CPU
    assert result.settings["shapes"] == {"x": [16, 16]}
    for count in ("load_ns", "first_ns", "cpu_thread_ns", "cpu_process_ns", "rss_peak_bytes"):
        assert result.counts[count] > 0, count
    assert result.counts["warm_runs"] >= 3
    assert len(result.state) >= 2
    assert from_json(to_json(result)) == result
    text = to_json(result).decode()
    assert model not in text
    assert str(Path(model).parent) not in text


def test_stages_of_a_model_with_a_manifest() -> None:
    result = measure(Settings("part", time_limit_ns=SHORT, profile=True))
    assert [series.stage for series in result.series] == ["pre", "infer", "post", "total"]
    stages = [np.asarray(series.samples_ns) for series in result.series]
    assert (np.sum(stages[:3], axis=0) == stages[3]).all()
    assert result.settings["manifest"] == "part.yaml"
    assert "Conv" in {operator.kind for operator in result.operators}
    assert result.operators == sorted(result.operators, key=lambda o: -o.ns)


def test_a_pace_and_streams(model: str) -> None:
    result = measure(Settings(model, fps=50.0, streams=2, time_limit_ns=SHORT))
    assert [series.stage for series in result.series] == ["wait", "infer", "total"]
    assert result.counts["due"] == result.counts["runs"] + result.counts["dropped"]
    assert "--paced 50 --streams 2" in result.command


def test_a_soak_runs_its_time_whatever_is_known(model: str) -> None:
    result = measure(Settings(model, soak_ns=2 * SHORT))
    assert result.settings["soak_s"] == 0.4
    assert result.counts["seconds"] >= 0.4
    assert result.command.endswith("--soak 0.4s")


def test_open_sizes_are_filled_and_said(tmp_path: Path) -> None:
    path = str(chain(tmp_path / "open.onnx", 2, 16, ("n", 3, "h", 16)))
    result = measure(Settings(path, time_limit_ns=SHORT))
    assert result.settings["shapes"] == {"x": [1, 3, 224, 16]}
    assert "--shape x=1x3x224x16" in result.warnings[0]
    stated = measure(Settings(path, shapes={"x": (2, 3, 8, 16)}, time_limit_ns=SHORT))
    assert stated.settings["shapes"] == {"x": [2, 3, 8, 16]}
    assert not any("--shape" in warning for warning in stated.warnings)
    with pytest.raises(ModelError, match=r"no input 'y', found x\. Correct --shape"):
        measure(Settings(path, shapes={"y": (1,)}, time_limit_ns=SHORT))
    assert fill_open(["n", "h", "w", 3]) == (1, 224, 224, 3)
    assert fill_open(["batch", "height", 256]) == (1, 1, 256)
    assert parse_shape("a=1x2") == ("a", (1, 2))
    with pytest.raises(ModelError, match="write NAME=1x3x224x224"):
        parse_shape("a=1xb")


@pytest.mark.parametrize("name", ["cuda", "FooExecutionProvider", "XNNPACK"])
def test_an_absent_provider_is_an_error(model: str, name: str) -> None:
    with pytest.raises(ModelError, match="is not in this build of onnxruntime, found"):
        measure(Settings(model, provider=name))


def test_a_provider_by_its_short_name(model: str) -> None:
    assert measure(Settings(model, provider="cpu", time_limit_ns=SHORT)).providers == {CPU: 6}


def test_golden_outputs(model: str, tmp_path: Path) -> None:
    golden = str(tmp_path / "golden")
    measure(Settings(model, save_golden=golden, time_limit_ns=SHORT))
    same = measure(Settings(model, golden=golden, time_limit_ns=SHORT))
    assert same.counts["cosine"] == 1.0
    other = str(chain(tmp_path / "other.onnx", 4, 16))  # one link more: another function
    with pytest.raises(ModelError, match=r"output y has cosine -?0\.\d+ to golden, expected 0"):
        measure(Settings(other, golden=golden, time_limit_ns=SHORT))
    with pytest.raises(ModelError, match=r"no golden file .* Make one with --save-golden"):
        measure(Settings(model, golden=str(tmp_path / "none"), time_limit_ns=SHORT))
    wide = str(chain(tmp_path / "wide.onnx", 1, 8))
    with pytest.raises(ModelError, match=r"input x is \[16, 16\] float32, the model has \[8, 8\]"):
        measure(Settings(wide, golden=golden, time_limit_ns=SHORT))
    with pytest.raises(ModelError, match="it has inputs x, the model image"):
        measure(Settings("part", golden=golden, time_limit_ns=SHORT))


def test_a_picture(tmp_path: Path) -> None:
    import cv2

    picture = str(tmp_path / "a.png")
    cv2.imwrite(picture, np.full((20, 30, 3), 128, np.uint8))
    path = str(chain(tmp_path / "net.onnx", 1, 16, (1, 3, 16, 16)))
    result = measure(Settings(path, image=picture, time_limit_ns=SHORT))
    assert result.settings["input"] == "a.png"
    assert "no manifest" in result.warnings[0]
    flat = str(chain(tmp_path / "flat.onnx", 1, 16))
    with pytest.raises(ModelError, match="not a picture"):
        measure(Settings(flat, image=picture, time_limit_ns=SHORT))


def test_what_cannot_be_used(model: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"--cores 4095: allowed "):
        measure(Settings(model, cores=(4095,)))
    with pytest.raises(ModelError, match="threads is 0"):
        measure(Settings(model, threads=0))
    with pytest.raises(ModelError, match="--streams wants 1 or more"):
        measure(Settings(model, streams=0))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(Path(model).read_bytes()[:200])
    with pytest.raises(ModelError, match="not an ONNX model, or truncated"):
        measure(Settings(str(broken)))


@pytest.mark.parametrize(
    ("text", "found"),
    [("camera", ("camera", 30.0)), ("control", ("control", 200.0)), ("camera@10", ("camera", 10.0)),
     ("a/b.onnx", ("a/b.onnx", 0.0)), ("part@5", ("part", 5.0))],
)  # fmt: skip
def test_loads_beside(text: str, found: tuple[str, float]) -> None:
    assert parse_load(text) == found


@pytest.mark.parametrize("text", ["", "@5", "part@", "part@-1", "part@x"])
def test_loads_that_are_none(text: str) -> None:
    with pytest.raises(ModelError, match="write camera, control, MODEL or MODEL@FPS"):
        parse_load(text)


def test_a_profile_is_summed_up_by_kind() -> None:
    def event(name: str, kind: str, us: int) -> str:
        facts = f'{{"op_name": "{kind}", "provider": "P"}}'
        return f'{{"cat": "Node", "name": "{name}_kernel_time", "dur": {us}, "args": {facts}}}'

    events = [event("a", "Conv", 900), event("b", "Conv", 500), event("c", "Relu", 9)]
    events += [event("a", "Conv", 100), event("b", "Conv", 50), event("c", "Relu", 7)]
    events.append('{"cat": "Session", "name": "model_run", "dur": 99, "args": {}}')
    first, second = sum_up(f"[{','.join(events)}]")
    assert (first.kind, first.nodes, first.ns, first.provider) == ("Conv", 2, 150_000, "P")
    assert (second.kind, second.nodes, second.ns) == ("Relu", 1, 7_000)


def test_a_result_of_an_older_writer_still_reads() -> None:
    text = b'{"name":"a","command":"","settings":{},"series":[],"machine":{}}'
    assert isinstance(from_json(text), Result)
