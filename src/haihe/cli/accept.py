"""`haihe hw-accept`: the acceptance that a board owner runs, and its check."""

import argparse
import sys
from typing import Any


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = verbs.add_parser("hw-accept", help="prove that haihe works on this board: one file")
    verb.add_argument("--out", metavar="FILE.json", help="default: haihe-accept-BOARD.json")
    verb.add_argument("--quick", action="store_true", help="a rehearsal of some seconds")
    verb.add_argument("--check", metavar="FILE.json", help="maintainer: judge a file sent in")
    verb.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    if arguments.check:
        return _check(Path(arguments.check))
    from haihe.bench.measure.acceptance import (
        EMULATED,
        SENT_BYTES,
        SENT_SHA256,
        Sent,
        accept,
        to_json,
    )

    found = accept(arguments.quick, lambda text: print(f"... {text}", file=sys.stderr, flush=True))
    out = Path(arguments.out or f"haihe-accept-{found.machine.board}.json")
    out.write_bytes(to_json(found))
    print(f"{found.machine.board} ({found.recognition.why}): {found.claim}")
    print(f"{out}  (no host name, serial number or folder of yours is in it; read it, send it)")
    is_equal = found.sent == Sent(SENT_BYTES, SENT_SHA256)
    print(f"bytes to the servos: {'as expected' if is_equal else 'DIFFERENT'}")
    return int(bool(found.failures) or not is_equal or EMULATED in found.claim)


def _check(path: Any) -> int:
    from haihe.bench.measure.acceptance import obstacles, read

    found = read(path)
    against = list(obstacles(found))
    for text in against:
        print(f"against it: {text}")
    board = found.recognition.board
    print(f"{board}: " + ("stays unproven on hardware" if against else "proven on hardware"))
    if not against:
        print(f"say so in boards/compute/{board}.yaml: proven_on_hardware, with {path.name}")
    return int(bool(against))
