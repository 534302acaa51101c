"""`haihe boards` and `haihe doctor`."""

import argparse
from typing import Any


def add(verbs: Any) -> None:
    """Add the verbs to the parser."""
    boards = verbs.add_parser("boards", help="boards that haihe knows, and which one this is")
    what = boards.add_subparsers(dest="what", metavar="WHAT", required=True)
    listed = what.add_parser("list", help="all compute profiles")
    listed.set_defaults(run=_list)
    show = what.add_parser("show", help="what a profile says, and what nobody has checked")
    show.add_argument("name", nargs="?", help="default: this machine's")
    show.set_defaults(run=_show)
    detect = what.add_parser("detect", help="recognise this machine")
    _root(detect)
    detect.set_defaults(run=_detect)

    doctor = verbs.add_parser("doctor", help="what on this machine stands in the way, and the cure")
    _root(doctor)
    doctor.set_defaults(run=_doctor)


def _root(verb: argparse.ArgumentParser) -> None:
    about = "the files of another machine: a mounted image, a copy of its /proc and /sys"
    verb.add_argument("--root", default="/", metavar="DIR", help=about)
    verb.add_argument("--json", action="store_true", help="as JSON")


def _list(arguments: argparse.Namespace) -> int:
    from haihe.boards.compute_profile import all_profiles
    from haihe.boards.table import line

    profiles, problems = all_profiles()
    print("\n".join([*map(line, profiles), *(f"unreadable: {text}" for text in problems)]))
    return int(bool(problems))


def _show(arguments: argparse.Namespace) -> int:
    from haihe.boards.compute_profile import find_profile
    from haihe.boards.published import published
    from haihe.boards.table import describe

    name = arguments.name
    if name is None:
        from haihe.boards.recognise import recognise

        name = recognise().board
    print("\n".join([describe(find_profile(name)), *(f"  {row}" for row in published(name))]))
    return 0


def _detect(arguments: argparse.Namespace) -> int:
    from haihe.boards.recognise import recognise

    found = recognise(_folder(arguments.root))
    if arguments.json:
        more = {name: getattr(found, name) for name in ("is_exact", "big_cores", "little_cores")}
        _print_json(found, more)
    else:
        print(found.describe())
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from haihe.boards.doctor import examine

    report = examine(_folder(arguments.root))
    if arguments.json:
        _print_json(report)
    else:
        print(report.describe())
    return report.exit_code


def _folder(root: str) -> str:
    """A root that is not there would be recognised as a machine that says nothing."""
    from pathlib import Path

    from haihe.runtime.errors import BoardError

    if not Path(root).is_dir():
        raise BoardError(f"--root {root}: no such folder. Give the folder that stands for /.")
    return root


def _print_json(record: Any, more: dict[str, Any] | None = None) -> None:
    import json

    import msgspec

    print(json.dumps(msgspec.to_builtins(record) | (more or {}), indent=1, ensure_ascii=False))
