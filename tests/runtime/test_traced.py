"""At wiring time there is no value: every use of a traced one is refused, with the user's line."""

import pytest
from tests.typing.user_file import in_graph, load, refuses

from haihe.runtime.errors import WiringError
from haihe.runtime.traced import Ref, Traced, inside
from haihe.runtime.types import Image

USES = [
    ("if parts: pass", "if or bool()"),
    ("not parts", "if or bool()"),
    ("parts and parts", "if or bool()"),
    ("while parts: pass", "if or bool()"),
    ("len(parts)", "len()"),
    ("list(parts)", "iteration or unpacking"),
    ("for part in parts: pass", "iteration or unpacking"),
    ("a, b = parts", "iteration or unpacking"),
    ("parts[0]", "iteration or unpacking"),
    ("3 in parts", "iteration or unpacking"),
    ("parts[0] = 3", "iteration or unpacking"),
    ("del parts[0]", "delete"),
    ("del parts.boxes", "delete"),
    ("parts + 1", "arithmetic"),
    ("1 + parts", "arithmetic"),
    ("parts += 1", "arithmetic"),
    ("-parts", "arithmetic"),
    ("2 ** parts", "arithmetic"),
    ("parts @ parts", "arithmetic"),
    ("round(parts, 2)", "arithmetic"),
    ("math.floor(parts)", "arithmetic"),
    ("sum([parts])", "arithmetic"),
    ("parts == parts", "a comparison"),
    ("parts != 3", "a comparison"),
    ("parts < 3", "a comparison"),
    ("max(parts, parts)", "a comparison"),
    ("{parts: 1}", "hash() or use as a dict key"),
    ("{parts}", "hash() or use as a dict key"),
    ('f"{parts}"', "formatting"),
    ('f"{parts!r}"', "formatting"),
    ('"%s" % parts', "formatting"),
    ("str(parts)", "formatting"),
    ("print(parts)", "formatting"),
    ("bytes(parts)", "formatting"),
    ("float(parts)", "conversion to a number"),
    ("int(parts)", "conversion to a number"),
    ("range(parts)", "conversion to a number"),
    ("math.sqrt(parts)", "conversion to a number"),
    ("np.asarray(parts)", "numpy"),
    ("np.array([parts])", "numpy"),
    ("np.sqrt(parts)", "numpy"),
    ("np.mean(parts)", "numpy"),
    ("np.linalg.norm(parts)", "numpy"),
    ("np.clip(parts, 0, 1)", "numpy"),
    ("np.ones(3) * parts", "numpy"),
    ("copy.copy(parts)", "copy or pickle"),
    ("copy.deepcopy([parts])", "copy or pickle"),
    ("pickle.dumps(parts)", "copy or pickle"),
    ("parts.boxes", ".boxes"),
    ("parts.best()", ".best"),
    ("parts.boxes = 3", ".boxes = ..."),
    ("vars(parts)", ".__dict__"),
    ("parts()", "a call"),
    ("isinstance(parts, Detections)", "isinstance() or match"),
    ("parts.__class__", "isinstance() or match"),
    ("with parts: pass", ".__enter__"),
]


@pytest.mark.parametrize(("code", "what"), USES, ids=[code for code, _ in USES])
def test_use_of_a_traced_value_is_refused(tmp_path, code, what):
    if what == ".__enter__":
        what = "with"
    refuses(
        tmp_path,
        in_graph(f'parts = detector("part")(cam.image)\n{code}  # here'),
        WiringError,
        f"HERE: {what} on part (Detections): this is wiring time, there is no value yet. "
        "Move it into a node.",
    )


def test_match_is_refused(tmp_path):
    code = 'parts = detector("part")(cam.image)\nmatch parts:\n    case Detections():  # here\n'
    refuses(
        tmp_path,
        in_graph(code + "        pass"),
        WiringError,
        "HERE: isinstance() or match on part (Detections): this is wiring time, there is no value "
        "yet. Move it into a node.",
    )


def test_await_is_refused(tmp_path):
    code = (
        "async def wait(value):\n    await value  # here\n"
        "try:\n    wait(cam.image).send(None)\nfinally:\n    pass"
    )
    refuses(
        tmp_path,
        in_graph(code),
        WiringError,
        "HERE: await on front.image (Image): this is wiring time, there is no value yet. "
        "Move it into a node.",
    )


def test_the_line_is_that_of_the_users_function_not_of_its_caller(tmp_path):
    code = "def busy(value):\n    return len(value)  # here\n"
    refuses(
        tmp_path,
        code + in_graph("busy(cam.image)"),
        WiringError,
        "HERE: len() on front.image (Image): this is wiring time, there is no value yet. "
        "Move it into a node.",
    )


def test_a_port_of_several_is_named(tmp_path):
    refuses(
        tmp_path,
        in_graph("left, right = split(cam.image)\nlen(right)  # here"),
        WiringError,
        "HERE: len() on split.right (Image): this is wiring time, there is no value yet. "
        "Move it into a node.",
    )


def test_declared_ports_and_unpacking_are_allowed(tmp_path):
    module = load(
        tmp_path,
        in_graph(
            "pair = split(cam.image)\nleft, right = split(pair.left)\nhold(right)\nhold(pair[1])"
        ),
    )
    holds = [module.g.nodes[name] for name in ("hold", "hold_2")]
    assert [str(use.inputs["value"]) for use in holds] == ["split_2.right", "split.right"]


def test_inside_sees_through_the_mask():
    ref = Ref("front", "image", "device")
    graph = object()
    assert inside(Traced(graph, ref, Image)) == (graph, ref, Image)
    assert inside(Image) is None
    assert inside(None) is None


def test_ref_is_written_without_the_only_output():
    assert str(Ref("aim", "out", "node")) == "aim"
    assert str(Ref("split", "left", "node")) == "split.left"
