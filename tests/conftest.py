"""Shared by all tests: what was skipped for want of reference data is printed at the end."""

import os
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    gates = sum("reference" in reason.lower() for reason in reasons)
    terminalreporter.write_line(
        f"gates skipped for want of reference data: {gates} (of {len(skipped)} skips)"
    )
