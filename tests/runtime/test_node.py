"""Contracts read from annotations, and what is refused in them with the node's line."""

from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
import pytest
from tests.typing.user_file import in_graph, load, refuses

from haihe import RNG, TICK, Age, Graph, Rng, Tick, age_of, fresh, node, silent, sometimes, unit
from haihe.runtime.contracts import SILENT
from haihe.runtime.errors import ContractError
from haihe.runtime.node import Inject, contract_of, is_node, reset, set_state, state_of
from haihe.types import Image, Message, Reading

M = TypeVar("M", bound=Message)

# name, definition of f, call, message
REFUSED = [
    (
        "no return type",
        "@node  # here\ndef f(image: Image):\n    return image",
        "HERE: node app:f: no return type. A node returns a Message, or a NamedTuple of them.",
    ),
    (
        "returns None",
        "@node  # here\ndef f(image: Image) -> None: ...",
        "HERE: node app:f: no return type. A node returns a Message, or a NamedTuple of them.",
    ),
    (
        "returns no message",
        "@node  # here\ndef f(image: Image) -> int:\n    return 3",
        "HERE: node app:f: output out is int, not a Message. Return a Message, or a NamedTuple "
        "whose fields are Messages.",
    ),
    (
        "returns a plain tuple",
        "@node  # here\ndef f(image: Image) -> tuple[Image, Image]:\n    return image, image",
        "HERE: node app:f: output out is tuple, not a Message. Return a Message, or a NamedTuple "
        "whose fields are Messages.",
    ),
    (
        "NamedTuple with a number",
        "class Two(NamedTuple):\n    image: Image\n    count: int\n\n\n"
        "@node  # here\ndef f(image: Image) -> Two:\n    return Two(image, 1)",
        "HERE: node app:f: output count is int, not a Message. Return a Message, or a NamedTuple "
        "whose fields are Messages.",
    ),
    (
        "*args",
        "@node  # here\ndef f(*images: Image) -> Image:\n    return images[0]",
        "HERE: node app:f: parameter images: a node has no *args or **kwargs.",
    ),
    (
        "**kwargs",
        "@node  # here\ndef f(image: Image, **more: Image) -> Image:\n    return image",
        "HERE: node app:f: parameter more: a node has no *args or **kwargs.",
    ),
    (
        "no type",
        "@node  # here\ndef f(image: Image, gain=1.0) -> Image:\n    return image",
        "HERE: node app:f: parameter gain has no type. Annotate it.",
    ),
    (
        "names under TYPE_CHECKING",
        "if TYPE_CHECKING:\n    from decimal import Decimal\n\n\n"
        "@node  # here\ndef f(image: Image, gain: 'Decimal' = None) -> Image:\n    return image",
        "HERE: node app:f: the annotation names 'Decimal', which is not known at run time. Import "
        "it at the top of the module, not under TYPE_CHECKING or inside a function.",
    ),
    (
        "names under TYPE_CHECKING in a NamedTuple",
        "class Two(NamedTuple):\n    image: 'Picture'\n\n\n"
        "@node  # here\ndef f(image: Image) -> Two:\n    return Two(image)",
        "HERE: node app:f: the annotation names 'Picture', which is not known at run time. Import "
        "it at the top of the module, not under TYPE_CHECKING or inside a function.",
    ),
    (
        "Tick without default",
        "@node  # here\ndef f(image: Image, dt: Tick) -> Image:\n    return image",
        "HERE: node app:f: parameter dt is filled in by the plan: give it a default (TICK).",
    ),
    (
        "Rng without default",
        "@node  # here\ndef f(image: Image, *, rng: Rng) -> Image:\n    return image",
        "HERE: node app:f: parameter rng is filled in by the plan: give it a default (RNG).",
    ),
    (
        "Age without default",
        "@node  # here\ndef f(image: Image, age: Age) -> Image:\n    return image",
        "HERE: node app:f: parameter age is filled in by the plan: give it a default "
        "(age_of(...)).",
    ),
    (
        "Age of no input",
        "@node  # here\ndef f(image: Image, age: Age = age_of('picture')) -> Image:\n"
        "    return image",
        "HERE: node app:f: parameter age: age_of('picture') names no input. Inputs: image.",
    ),
    (
        "trigger of no input",
        "@node(on='picture')  # here\ndef f(image: Image, z: Image) -> Image:\n    return image",
        "HERE: node app:f: on='picture' names no input. Inputs: image, z.",
    ),
    (
        "on_stale without Optional",
        "@node  # here\ndef f(image: Annotated[Image, fresh('1s', on_stale='call')]) -> Image:\n"
        "    return image",
        'HERE: node app:f: input image: on_stale="call" gives None when stale. Write '
        "Image | None.",
    ),
    (
        "class that is no dataclass",
        "@node\nclass f:\n    def __call__(self, image: Image) -> Image:  # here\n"
        "        return image",
        "HERE: node app:f: a node class is a dataclass. Put @dataclass above it.",
    ),
    (
        "frozen dataclass with state",
        "@node\n@dataclass(frozen=True)\nclass f:\n    gain: float = 1.0\n    _sum: float = 0.0\n"
        "    _n: int = 0\n\n    def __call__(self, image: Image) -> Image:  # here\n"
        "        return image",
        "HERE: node app:f: a frozen dataclass cannot keep the state _sum, _n. Drop frozen=True.",
    ),
    (
        "subclass with its own __call__",
        "@dataclass\nclass f(Mean):\n    def __call__(self, value: Reading) -> Reading:  # here\n"
        "        return Reading(1.0)",
        "HERE: node app:f: the subclass has a __call__ of its own but no @node. Put @node above "
        "it.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("definition", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_contract_is_refused_at_the_first_call(tmp_path, definition, message):
    call = "f()(cam.image)" if "class f" in definition else "f(cam.image)"
    refuses(tmp_path, f"{definition}\n\n\n{in_graph(call)}", ContractError, message)


DECORATED = [
    (
        "@node\nclass A: ...",
        "node A: the class has no __call__ of its own. Define __call__ with the inputs as its "
        "parameters.",
    ),
    (
        "node(every='20ms', on='image')",
        "node(every='20ms', on='image'): a node has one trigger. Keep one of the two.",
    ),
    (
        "node(deadline='0ms')  # here",
        "HERE: node(deadline='0ms'): deadline '0ms' is not a positive duration. Write it as in "
        "'20ms'.",
    ),
    (
        "node(every='0Hz')  # here",
        "HERE: node(every='0Hz'): every '0Hz' is not a positive duration. Write it as in '20ms'.",
    ),
    (
        "node(budget='5m')  # here",
        "HERE: node(budget='5m'): '5m' has the wrong dimension: found m, expected something like "
        "s.",
    ),
]


@pytest.mark.parametrize(("source", "message"), DECORATED)
def test_decoration_is_refused_at_once(tmp_path, source, message):
    refuses(tmp_path, source, ContractError, message)


# --- what is read ---------------------------------------------------------------------------------


class Pose(Message):
    x: float


class Two(NamedTuple):
    left: Pose
    right: Annotated[Pose | None, unit("m")]


@node(on="pose", deadline="5ms", budget="1ms")
def everything(
    pose: Pose,
    old: Annotated[Pose | None, fresh("80ms", on_stale="call")],
    other: Annotated[Pose, unit("m"), fresh("50Hz")] | None = None,
    gain: float = 0.5,
    *,
    dt: Tick = TICK,
    rng: Rng = RNG,
    old_age: Age = age_of("old"),
    names: tuple[str, ...] = ("a",),
) -> Two:
    return Two(pose, silent())


def test_contract_of_a_function():
    contract = contract_of(everything)
    assert contract.target == f"{__name__}:everything"
    assert [(p.name, p.kind, p.optional) for p in contract.inputs] == [
        ("pose", Pose, False),
        ("old", Pose, True),
        ("other", Pose, True),
    ]
    assert contract.input("old").fresh == fresh("80ms", on_stale="call")
    assert contract.input("other").fresh == fresh("20ms")
    assert contract.input("other").unit == unit("m")
    assert contract.constants == ("gain", "names")
    assert contract.injected == (
        ("dt", Inject.TICK, ""),
        ("rng", Inject.RNG, ""),
        ("old_age", Inject.AGE, "old"),
    )
    assert [(p.name, p.kind, p.sometimes, p.unit) for p in contract.outputs] == [
        ("left", Pose, False, None),
        ("right", Pose, True, unit("m")),
    ]
    assert contract.output_tuple is Two
    assert (contract.on, contract.every_ns) == ("pose", None)
    assert (contract.deadline_ns, contract.budget_ns) == (5_000_000, 1_000_000)


@node(recorded=True)
@dataclass
class Model:
    name: str
    _handle: int = field(default=3, init=False)
    _past: list[int] = field(default_factory=list)

    def __call__(self, image: Image) -> Annotated[Reading, sometimes]:
        return silent()


@node(every="10ms")
@dataclass
class Bigger(Model):
    _last: float = 0.0

    def __call__(self, image: Annotated[Image, fresh("1s")]) -> Reading:
        return Reading(super().__call__(image).value)


class Inheriting(Model):
    pass


def test_contract_of_a_class_and_its_instance():
    contract = contract_of(Model)
    assert contract_of(Model("x")) is contract
    assert contract.is_class
    assert contract.recorded
    assert contract.constants == ()
    assert contract.outputs[0].sometimes
    assert is_node(Model)
    assert not is_node(Reading)


def test_a_subclass_has_its_own_contract():
    assert contract_of(Bigger).every_ns == 10_000_000
    assert contract_of(Inheriting).target.endswith(":Inheriting")
    assert contract_of(Model).every_ns is None
    assert contract_of(Model).target.endswith(":Model")


def test_decorators_in_either_order_and_with_slots(tmp_path):
    source = "".join(
        f"{above}\nclass N{number}:\n    gain: float = 1.0\n    _sum: float = 0.0\n\n"
        "    def __call__(self, image: Image) -> Image:\n        return image\n\n\n"
        for number, above in enumerate(
            [
                "@node\n@dataclass",
                "@dataclass\n@node",
                "@node\n@dataclass(slots=True)",
                "@dataclass(slots=True)\n@node",
                "@node(on='image')\n@dataclass(frozen=False)",
            ]
        )
    )
    calls = "\n".join(f"N{number}(gain=2.0)(cam.image)" for number in range(5))
    module = load(tmp_path, source + in_graph(calls))
    assert [use.constants for use in module.g.nodes.values()] == [{"gain": 2.0}] * 5


def test_string_annotations_are_read(tmp_path):
    source = (
        "@node\ndef f(image: 'Annotated[Image, fresh(\"1s\")]', n: 'int' = 1) -> 'Reading':\n"
        "    return Reading(n)\n\n\n"
    )
    module = load(tmp_path, source + "contract = contract_of(f)\n")
    assert module.contract.inputs[0].fresh == fresh("1s")
    assert module.contract.constants == ("n",)


def test_a_users_init_subclass_still_runs():
    seen = []

    class Base:
        def __init_subclass__(cls, **kwargs: Any) -> None:
            super().__init_subclass__()
            seen.append((cls.__name__, kwargs))

    @node
    @dataclass
    class First(Base):
        def __call__(self, image: Image) -> Image:
            return image

    class Second(First, colour="red"):
        pass

    assert seen == [("First", {}), ("Second", {"colour": "red"})]
    assert is_node(Second)


def test_a_decorated_subclass_wires(tmp_path):
    source = (
        "@node\n@dataclass\nclass Sub(Mean):\n    extra: int = 7\n\n"
        "    def __call__(self, value: Reading) -> Reading:\n"
        "        return super().__call__(value)\n\n\n"
    )
    module = load(tmp_path, source + in_graph("Sub()(light(cam.image))"))
    assert module.g.nodes["Sub"].constants == {"count": 3, "extra": 7}
    assert module.Sub()(Reading(6.0)).value == 2.0


def test_undecorated_subclass_is_plain_outside_a_graph(tmp_path):
    source = (
        "@dataclass\nclass Sub(Mean):\n"
        "    def __call__(self, value: Reading) -> Reading:\n        return value\n"
    )
    assert load(tmp_path, source).Sub()(Reading(6.0)).value == 6.0


def test_state_is_read_restored_and_reset():
    model = Model("yolo")
    state = state_of(model)
    assert state == {"_handle": 3, "_past": []}
    set_state(model, {"_handle": 9, "_past": [1]})
    assert state_of(model) == {"_handle": 9, "_past": [1]}
    reset(model)
    assert state_of(model) == {"_handle": 3, "_past": []}
    model._past.append(1)
    model.reset()  # type: ignore[attr-defined]
    assert state_of(model) == {"_handle": 3, "_past": []}
    assert model.name == "yolo"


def test_a_reset_of_the_users_own_is_kept():
    @node
    @dataclass
    class Own:
        _n: int = 3

        def __call__(self, image: Image) -> Image:
            return image

        def reset(self) -> None:
            self._n = 99

    own = Own()
    own.reset()
    assert own._n == 99


def test_silent_outside_a_graph_is_the_sentinel():
    said: object = Model("x")(Image(np.zeros((1, 1, 3), np.uint8)))
    assert said is SILENT


def test_a_node_keeps_its_name_and_docstring():
    @node
    def documented(image: Image) -> Image:
        """What it does."""
        return image

    assert (documented.__name__, documented.__doc__) == ("documented", "What it does.")


def test_wiring_reads_lazily():
    """A definition that is never wired costs nothing and raises nothing."""

    @node
    def never(image: "Nowhere") -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
        return image

    with Graph("g"):
        pass
    assert is_node(never)


def test_a_node_that_is_none_is_told_so():
    with pytest.raises(ContractError) as caught:
        contract_of(len)
    assert str(caught.value) == (
        "<built-in function len> is not a node. Put @node above its definition."
    )
