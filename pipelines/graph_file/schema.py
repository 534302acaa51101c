"""The JSON schema (draft 2020-12) of YAML graphs, for editors and other programs.

python -m haihe.pipelines.graph_file.schema           writes pipelines/graph_file/graph.schema.json
python -m haihe.pipelines.graph_file.schema --check   exit code 1 when the file is not up to date
"""

import importlib.resources
import inspect
import json
import sys
import typing
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from haihe.drivers.roles import KINDS
from haihe.models.detector import Detector
from haihe.pipelines.graph_file.nodes import SHORT, annotations, fields_of, required
from haihe.runtime import registry
from haihe.runtime.node import contract_of
from haihe.runtime.yaml_config import options_of

FILE = Path(__file__).with_name("graph.schema.json")
_SCALARS = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
_NAME, _REF = r"[\w-]+(/[\w-]+)*", r"[\w-]+(/[\w-]+)*(\.\w+)?"
_OTHER = r"^([\w.]+:[\w.]+|\w+\.[\w.]+)$"  # app:aim, or acme.aim of another package
_ZOO = Path(str(importlib.resources.files("haihe.models.zoo")))
_SOURCE = {"type": "string", "pattern": rf"^({_REF}|\$.*)$"}


def schema() -> str:
    """The text of the file."""
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "haihe graph",
        "description": "A graph of nodes between devices. An included file has no `graph`.",
    }
    whole = head | _object(_sections()) | {"$defs": _definitions()}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _sections() -> dict[str, Any]:
    return {
        "graph": _text("The graph's name.", pattern=r"^([\w-]+|\$.*)$"),
        "include": {
            "description": "Files merged into this one; their paths from here.",
            "type": "array",
            "items": {"type": "string"},
        },
        "params": {
            "description": "Parameters with their defaults: $name in a value, -p name=value.",
            "type": "object",
            "propertyNames": {"pattern": r"^[A-Za-z_]\w*$"},
            "additionalProperties": {"$ref": "#/$defs/parameter"},
        },
        "inputs": _mapping(_message(), "Of a sub-graph: the message type of each input."),
        "outputs": _mapping(_SOURCE, "Of a sub-graph: what each output is inside."),
        "devices": _mapping(
            {"anyOf": [{"enum": sorted(KINDS)}, _use()]},
            "Roles and kinds; the unit profile binds them.",
        ),
        "feedback": _mapping({"$ref": "#/$defs/feedback"}, "Loops: the value of the last firing."),
        "goals": _mapping({"$ref": "#/$defs/goal"}, "What can be asked for while it runs."),
        "modes": _mapping({"$ref": "#/$defs/modes"}, "Groups of modes, one of each active."),
        "nodes": _mapping({"$ref": "#/$defs/entry"}, "Nodes, detectors and sub-graphs by name."),
        "commands": {
            "description": "What commands each device: role, or role.port.",
            "type": "object",
            "propertyNames": {"pattern": rf"^{_REF}$"},
            "additionalProperties": _SOURCE,
        },
        "threads": _mapping({"$ref": "#/$defs/thread"}, "Lanes that share a thread."),
        "processes": _mapping(
            {"$ref": "#/$defs/process"}, "Processes of their own, for the threads of some nodes."
        ),
    }


def _definitions() -> dict[str, Any]:
    short = [name for name in registry.names("node") if _is_own(name)]
    models = [name for name, path in registry.data_names("model").items() if _ZOO in path.parents]
    sources = {"anyOf": [_SOURCE, _mapping(_SOURCE, "A source by the name of each input.")]}
    constants = {"type": "object", "description": "Constants of the node."}
    entry = _object(
        {
            "node": {
                "description": "A node: of haihe by its name, of a module as app:aim.",
                "anyOf": [{"enum": short}, _text("", pattern=_OTHER), _use()],
            },
            "model": {
                "description": "A detector: a model of the zoo, or the path of a manifest.",
                "anyOf": [{"enum": sorted(models)}, {"type": "string"}],
            },
            "graph": _text("A sub-graph: the path of its file."),
            "in": {"description": "Where its inputs come from."} | sources,
            "params": constants,
            "select": {
                "description": "Takes over what one of these nodes gave in the firing.",
                "type": "array",
                "items": _SOURCE,
                "minItems": 1,
            },
            "mode": _mapping({"type": "string"}, "Its mode, by group: else it is not called."),
        }
    )
    entry["oneOf"] = [{"required": [key]} for key in ("node", "model", "graph", "select")]
    entry["allOf"] = [
        {"if": {"required": ["model"]}, "then": {"properties": {"params": _constants(Detector)}}},
        *map(_of_node, short),
    ]
    parameter = _object({"default": {}, "range": _range()}, ["default"])
    return {
        "use": {"description": "A parameter of the file.", "type": "string", "pattern": r"^\$"},
        "typed": {"type": "object", "required": ["type"], "properties": {"type": _text("")}},
        "parameter": {"anyOf": [{"not": {"type": "object"}}, parameter]},
        "feedback": _object(
            {"from": _SOURCE, "initial": {"$ref": "#/$defs/typed"}}, ["from", "initial"]
        ),
        "thread": _object(
            {
                "lanes": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "policy": {"anyOf": [{"enum": ["priority", "fifo"]}, _use()]},
            },
            ["lanes"],
        ),
        "process": _object(
            {"nodes": {"type": "array", "items": {"type": "string"}, "minItems": 1}}, ["nodes"]
        ),
        "goal": _object(
            {
                "request": _message(),
                "timeout": _text("Such as 10s."),
                "report": {"description": "The GoalStatus of a node."} | _SOURCE,
            },
            ["request", "timeout", "report"],
        ),
        "modes": _modes(),
        "entry": entry,
    }


def _modes() -> dict[str, Any]:
    flag = {"anyOf": [{"type": "boolean"}, _use()]}
    mode = _object(
        {
            "enter": {"description": "A Condition to enter it."} | _SOURCE,
            "auto": {"description": "Entered as soon as it holds (true)."} | flag,
            "leave": {"description": "A Condition that ends it."} | _SOURCE,
            "then": _text("The mode after it; else the initial one."),
            "goal": _text("Active while this goal is."),
        }
    )
    share = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, _use()]}
    ladder = _object(
        {
            "order": {"type": "array", "items": {"type": "string"}, "minItems": 2},
            "misses": _text("Of deadlines and budgets: 3 in 1s."),
            "heat": _text("Of the hottest sensor: 80degc."),
            "load": {"description": "Of all cores."} | share,
            "battery": {"description": "Its charge."} | share,
            "settle": _text("From a step down to the next (1s)."),
            "hold": _text("All is well for so long before a step up (5s)."),
        },
        ["order"],
    )
    modes = _mapping(mode, "By name, besides the initial one.")
    return _object(
        {"initial": _text("The first mode."), "modes": modes, "ladder": ladder}, ["initial"]
    )


def _is_own(name: str) -> bool:
    """Part of haihe: what other packages add differs from machine to machine."""
    return bool(registry.load("node", name).__name__ == SHORT + name)


def _of_node(name: str) -> dict[str, Any]:
    """Inputs and constants of a node of haihe."""
    owner = registry.load("node", name).NODE
    contract = contract_of(owner)
    ports = {port.name: _SOURCE for port in contract.inputs}
    needed = [port.name for port in contract.inputs if not port.optional]
    form: dict[str, Any] = _object(ports, needed)
    sources: Any = {"anyOf": [_SOURCE, form]} if len(ports) == 1 else form
    then = {"in": sources, "params": _constants(owner)}
    condition = {"required": ["node"], "properties": {"node": {"const": name}}}
    return {"if": condition, "then": {"properties": then, "required": ["in"]}}


def _constants(owner: Any) -> dict[str, Any]:
    contract = contract_of(owner)
    hints = annotations(contract, owner)
    if owner is Detector:
        hints.pop("model")  # it is the key `model`
    defaults = {n: p.default for n, p in inspect.signature(contract.function).parameters.items()}
    if contract.is_class:
        defaults |= {f.name: f.default for f in fields_of(owner)}
    found = {name: _value(hint, defaults[name]) for name, hint in hints.items()}
    return _object(found, [name for name in required(contract, owner) if name in hints])


def _value(hint: Any, default: Any) -> dict[str, Any]:
    forms = [form for option in options_of(hint) for form in _forms(option)]
    if {} in forms:
        return {}
    written = {"anyOf": [*forms, _use(), {"$ref": "#/$defs/typed"}]}
    return written | ({"default": default} if type(default) in _SCALARS else {})


def _forms(option: Any) -> list[dict[str, Any]]:
    if option in _SCALARS:
        number = {"type": ["number", "boolean"]}  # a text takes a plain number as it is written
        return [{"type": _SCALARS[option]}] + ([number] if option is str else [])
    if typing.get_origin(option) is typing.Literal:
        return [{"enum": list(typing.get_args(option))}]
    if isinstance(option, type) and issubclass(option, Enum):
        return [{"enum": [member.value for member in option]}]
    if (typing.get_origin(option) or option) in (list, tuple):
        return [{"type": "array"}]
    return [{"type": "object"}] if (typing.get_origin(option) or option) is dict else [{}]


def _message() -> dict[str, Any]:
    from haihe import types

    kinds = {name: getattr(types, name) for name in types.__all__}
    names = [n for n, k in kinds.items() if isinstance(k, type) and issubclass(k, types.Message)]
    return {"anyOf": [{"enum": names}, _text("", pattern=r"^[\w.]+:[\w.]+$"), _use()]}


def _object(properties: dict[str, Any], needed: Sequence[str] = ()) -> dict[str, Any]:
    body = {"type": "object", "additionalProperties": False, "properties": properties}
    return body | ({"required": list(needed)} if needed else {})


def _mapping(value: Any, description: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "propertyNames": {"pattern": f"^{_NAME}$"},
        "additionalProperties": value,
    }


def _text(description: str, **more: str) -> dict[str, Any]:
    return ({"description": description} if description else {}) | {"type": "string"} | more


def _use() -> dict[str, Any]:
    return {"$ref": "#/$defs/use"}


def _range() -> dict[str, Any]:
    limit = {"type": "number"}
    return {"type": "array", "prefixItems": [limit, limit], "items": False, "minItems": 2}


def main(arguments: Sequence[str]) -> int:
    """Write the file, or compare it."""
    if list(arguments) == ["--check"]:
        same = FILE.is_file() and FILE.read_text(encoding="utf-8") == schema()
        said = "up to date" if same else "not up to date: run it without --check"
        sys.stdout.write(f"{FILE.name}: {said}\n")
        return int(not same)
    FILE.write_text(schema(), encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
