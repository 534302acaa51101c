"""The tree of frames: what is fixed to what, what moves, and where all was at a moment."""

import math
from difflib import get_close_matches

import msgspec

from haihe.runtime.errors import FrameError
from haihe.runtime.history import History
from haihe.runtime.transforms import Transform, between


class Edge(msgspec.Struct):
    """A frame's place in its parent: a fixed one, or a history."""

    parent: str
    fixed: Transform | None
    history: History[Transform]


class TransformTree(msgspec.Struct):
    """Frames, each placed in one parent.

        tree = TransformTree(max_gap_s=0.1)
        tree.fix("camera", "head", head_from_camera)
        tree.moving("head", "base")                        # not known yet
        tree.move("head", "base", base_from_head, t_s)     # at every reading
        base_from_camera = tree.find("base", "camera", t_s)

    Times are in s on the node's own time, as in `History`; a moving frame keeps its newest `keep`
    places. Between two of them it is interpolated, if they are at most `max_gap_s` apart; outside
    nothing is extrapolated, not even by a moment: `find` gives None. Underscored in a node it is
    state like any other, and gives the same bits again in a replay.
    """

    keep: int = 256
    max_gap_s: float = math.inf
    edges: dict[str, Edge] = {}  # by child

    def __post_init__(self) -> None:
        History[Transform](self.keep, self.max_gap_s)  # refuses what a history does

    def fix(self, child: str, parent: str, place: Transform) -> None:
        """State that a frame never moves in its parent; `place` takes its points to the parent's.

        Saying the same again is nothing. Raises FrameError when the frame is placed otherwise.
        """
        known = self.edges.get(child)
        if known is None:
            self._join(child, parent, place)
        elif known.parent != parent or known.fixed != place:
            raise FrameError(f"fix({child!r}, {parent!r}): {self._is_placed(child)}")

    def moving(self, child: str, parent: str) -> None:
        """State that a frame moves in its parent, before it is known where: until then `find`
        gives None instead of an error. Raises FrameError when the frame is placed otherwise."""
        known = self.edges.get(child)
        if known is None:
            self._join(child, parent, None)
        elif known.parent != parent or known.fixed is not None:
            raise FrameError(f"move({child!r}, {parent!r}): {self._is_placed(child)}")

    def move(self, child: str, parent: str, place: Transform, t_s: float) -> bool:
        """State where a moving frame was in its parent. False: not newer than the newest, so not
        taken, and counted in its history. Raises FrameError when the frame is placed otherwise."""
        self.moving(child, parent)
        return self.edges[child].history.add(t_s, place)

    def find(self, target: str, source: str, t_s: float | None = None) -> Transform | None:
        """What takes points given in `source` to `target` at a moment.

        None when a moving frame on the way was not known then. Raises FrameError for unknown
        frames, for frames that nothing joins, and without a moment where something moves.
        """
        up, down = self._way(target, source)
        here = Transform()
        for name in up:  # from the source to the meeting frame
            place = self._place(name, t_s)
            if place is None:
                return None
            here = place @ here
        back = Transform()
        for name in down:
            place = self._place(name, t_s)
            if place is None:
                return None
            back = place @ back
        return back.inverse @ here if down else here

    def span(self, target: str, source: str) -> tuple[float, float] | None:
        """The oldest and the newest moment that `find` can answer, gaps apart; None: there is
        none. From -inf to inf when nothing on the way moves."""
        up, down = self._way(target, source)
        oldest, newest = -math.inf, math.inf
        for name in [*up, *down]:
            edge = self.edges[name]
            if edge.fixed is not None:
                continue
            first, last = edge.history.oldest_s, edge.history.newest_s
            if first is None or last is None:
                return None
            oldest, newest = max(oldest, first), min(newest, last)
        return (oldest, newest) if oldest <= newest else None

    @property
    def frames(self) -> list[str]:
        """Their names, in order."""
        return sorted({*self.edges, *(edge.parent for edge in self.edges.values())})

    def _place(self, name: str, t_s: float | None) -> Transform | None:
        edge = self.edges[name]
        if edge.fixed is not None:
            return edge.fixed
        if t_s is None:
            raise FrameError(
                f"find: {name} moves in {edge.parent}: give the moment, find(target, source, t_s)."
            )
        found = edge.history.around(t_s)
        return None if found is None else between(*found)

    def _join(self, child: str, parent: str, fixed: Transform | None) -> None:
        for name in (child, parent):
            if not name:
                raise FrameError(f"frame {child!r} in {parent!r}: a frame needs a name.")
        way = self._ancestors(parent)
        if child in way:
            circle = " in ".join([child, *way[: way.index(child) + 1]])
            raise FrameError(
                f"frame {child!r} in {parent!r}: that would be a circle, {circle}. A frame has its "
                "place in one parent: use the inverse of the transform that is known."
            )
        self.edges[child] = Edge(parent, fixed, History(self.keep, self.max_gap_s))

    def _is_placed(self, child: str) -> str:
        edge = self.edges[child]
        how = "moves in" if edge.fixed is None else "is fixed in"
        return (
            f"{child!r} {how} {edge.parent!r} already, and a frame has one place. Drop one of the "
            "two, or name another frame."
        )

    def _ancestors(self, name: str) -> list[str]:
        """The frame, its parent, and so on to a root."""
        way = [name]
        while (edge := self.edges.get(way[-1])) is not None:
            way.append(edge.parent)
        return way

    def _way(self, target: str, source: str) -> tuple[list[str], list[str]]:
        """The frames whose places lead from the source up, and from the target up, to where the
        two ways meet."""
        frames = self.frames
        for name in (target, source):
            if name not in frames:
                near = get_close_matches(name, frames, 1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise FrameError(
                    f"find({target!r}, {source!r}): no frame {name!r}. Known: "
                    f"{', '.join(frames) or 'none'}.{hint}"
                )
        up, down = self._ancestors(source), self._ancestors(target)
        if up[-1] != down[-1]:
            raise FrameError(
                f"find({target!r}, {source!r}): nothing joins them: {source!r} belongs to the tree "
                f"of {up[-1]!r}, {target!r} to that of {down[-1]!r}. Place one of these in the "
                "other tree, with fix() or move()."
            )
        while up and down and up[-1] == down[-1]:
            up.pop()
            down.pop()
        return up, down
