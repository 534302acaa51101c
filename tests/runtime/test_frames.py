"""Frames of reference on ports: stated in the contract, compared at wiring."""

from pathlib import Path

import pytest
from tests.typing.user_file import in_graph, load, refuses

from haihe.runtime.errors import ContractError, WiringError
from haihe.runtime.node import contract_of

DEFINITIONS = """
from haihe import frame


class Places(NamedTuple):
    head: Annotated[Reading, frame("head")]
    base: Annotated[Reading, frame("base")]


@node
def based(image: Image) -> Annotated[Reading, frame("base")]:
    return light(image)


@node
def places(image: Image) -> Places:
    return Places(light(image), light(image))


@node
def in_base(value: Annotated[Reading, frame("base")]) -> Annotated[Reading, frame("base")]:
    return value


@node
def in_head(value: Annotated[Reading, unit("K"), frame("head")]) -> Reading:
    return value


@node
def in_left(value: Annotated[Reading, frame("left/camera-2")]) -> Reading:
    return value


"""
CURE = "Put a node between that transforms it."


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "in_head(based(cam.image))  # here",
            "HERE: edge based -> in_head.value: based is in the frame 'base', value wants 'head'.",
        ),
        (
            "in_head(in_base(in_base(based(cam.image))))  # here",
            "HERE: edge in_base_2 -> in_head.value: in_base_2 is in the frame 'base', value wants "
            "'head'.",
        ),
        (
            "in_base(places(cam.image).head)  # here",
            "HERE: edge places.head -> in_base.value: places.head is in the frame 'head', value "
            "wants 'base'.",
        ),
        (
            "in_left(based(cam.image))  # here",
            "HERE: edge based -> in_left.value: based is in the frame 'base', value wants "
            "'left/camera-2'.",
        ),
    ],
)
def test_an_edge_between_two_frames_is_refused(tmp_path: Path, code: str, message: str) -> None:
    refuses(tmp_path, DEFINITIONS + in_graph(code), WiringError, f"{message} {CURE}")


@pytest.mark.parametrize(
    "code",
    [
        "in_base(based(cam.image))",
        "in_base(places(cam.image).base)",
        "in_head(places(cam.image).head)",
        "in_head(light(cam.image))  # it states none",
        "light(hold(cam.image))\nhold(based(cam.image))  # it asks for none",
    ],
)
def test_an_edge_in_one_frame_or_with_one_end_unstated_is_welcome(
    tmp_path: Path, code: str
) -> None:
    assert load(tmp_path, DEFINITIONS + in_graph(code)).g.nodes


def test_frames_are_part_of_the_contract(tmp_path: Path) -> None:
    module = load(tmp_path, DEFINITIONS)
    assert [port.frame for port in contract_of(module.places).outputs] == ["head", "base"]
    assert contract_of(module.in_head).inputs[0].frame == "head"
    assert contract_of(module.light).inputs[0].frame == ""


@pytest.mark.parametrize("name", ["", "left eye", "left.eye", "//", "-"])
def test_a_frame_needs_a_plain_name(tmp_path: Path, name: str) -> None:
    refuses(
        tmp_path,
        f"from haihe import frame\nframe({name!r})  # here\n",
        ContractError,
        f"HERE: frame({name!r}): letters, digits, '_', '-' and '/', please.",
    )
