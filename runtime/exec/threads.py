"""What a thread of an executor is doing."""

import sys
import threading


def where(thread: threading.Thread) -> str:
    """`file:line in function` of what a thread executes: of its innermost frame outside haihe's
    runtime, so a hanging node is named."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("haihe.runtime", "threading")):
            break
        frame = frame.f_back
    if frame is None:
        return ""
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
