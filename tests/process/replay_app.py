"""Replays recordings of live_app in a process of its own; prints a JSON line for each."""

import hashlib
import json
import sys

from haihe.testing import replay


def main() -> None:
    perception = sys.argv[1] == "perception"
    for path in sys.argv[2:]:
        report = replay(path, perception=perception)
        digest = hashlib.sha256(report.sent["neck"]).hexdigest()
        print(json.dumps({
            "ok": report.ok, "text": str(report), "sent": digest, "firings": report.firings,
            "skipped": report.skipped,
        }))  # fmt: skip


if __name__ == "__main__":
    main()
