"""pdb inside one call of a node: from the first line of its function to its return."""

import linecache
import pdb
import sys
from types import FrameType
from typing import Any, TextIO

from haihe.runtime.exec.lane import Lane
from haihe.runtime.graph import NodeUse


class NodePdb(pdb.Pdb):
    """Waits for the next call of a node's code; `q` leaves pdb, the replay goes on.

    Tracing ends with the call, so that stepping out of the node does not lead into haihe.
    """

    def __init__(self, stdin: TextIO | None = None, stdout: TextIO | None = None) -> None:
        """stdin, stdout: where they are no terminal; else pdb edits lines itself."""
        super().__init__(stdin=stdin, stdout=stdout, nosigint=True)
        self.is_waiting = False
        self._code: Any = None
        self._call = ""
        self._frame: FrameType | None = None

    def wait_for(self, use: NodeUse, lane: Lane) -> None:
        """Stop at the first line of the next call of a node of this lane, in this thread."""
        index = next(i for i, step in enumerate(lane.task.steps) if step.name == use.name)
        self._code = use.contract.function.__code__
        self._call = f"N{index}("  # as the stepping code writes it: nodes may share a function
        self.is_waiting = True
        sys.settrace(self._watch)

    def cancel(self) -> None:
        """Wait no more."""
        self.is_waiting = False
        sys.settrace(None)

    def _watch(self, frame: FrameType, event: str, arg: Any) -> Any:
        caller = frame.f_back
        if event != "call" or frame.f_code is not self._code or caller is None:
            return None
        if self._call not in linecache.getline(caller.f_code.co_filename, caller.f_lineno):
            return None
        self.is_waiting = False
        self._frame = frame
        self.reset()
        sys.settrace(self.trace_dispatch)
        return self.trace_dispatch(frame, event, arg)

    def dispatch_return(self, frame: FrameType, arg: Any) -> Any:
        """At the node's return all tracing ends, whatever pdb was told to do next."""
        traced = super().dispatch_return(frame, arg)
        if frame is self._frame:
            caller = frame.f_back
            while caller is not None:  # `up`, `next` and `return` may have marked them
                caller.f_trace = None
                caller = caller.f_back
            self._frame = None
            sys.settrace(None)
        return traced

    def do_quit(self, arg: str) -> bool:
        """q(uit): leave pdb; the node goes on, and so does the replay."""
        self.clear_all_breaks()
        self.set_continue()
        return True

    do_q = do_exit = do_quit

    def do_EOF(self, arg: str) -> bool:
        """The end of the input leaves pdb, too."""
        return self.do_quit(arg)
