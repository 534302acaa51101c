"""The JSON schema of a result, for programs that read one without haihe.

python -m haihe.bench.measure.schema           writes bench/measure/result.schema.json
python -m haihe.bench.measure.schema --check   exit code 1 when the file is not up to date
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from haihe.bench.measure.protocol import PROTOCOL, SCHEMA, Result

FILE = Path(__file__).with_name("result.schema.json")


def schema() -> str:
    """The text of the file."""
    body = msgspec.json.schema(Result)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{PROTOCOL}, schema {SCHEMA}",
    }
    return json.dumps(head | body, indent=1, ensure_ascii=False, default=str) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the file, or compare it."""
    if list(arguments) == ["--check"]:
        same = FILE.is_file() and FILE.read_text(encoding="utf-8") == schema()
        print(f"{FILE.name}: {'up to date' if same else 'not up to date: run it without --check'}")
        return int(not same)
    FILE.write_text(schema(), encoding="utf-8")
    print(FILE)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
