"""How data flows through the nodes of a plan: what reaches a node, and by which way."""

from collections import deque

from haihe.pipelines.check.hops import hops_of
from haihe.runtime.plan.model import LanePlan, Plan


class Flow:
    """The nodes of a plan with the edges whose age counts. Aligned ones are left out: what they
    give is as old as the trigger's data, within a limit of their own."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.hops = hops_of(plan)
        self.hop_names = {hop.name: hop for hop in self.hops.values()}
        self.lane_of: dict[str, LanePlan] = {}
        self.before: dict[str, list[str]] = {}  # node -> nodes, streams and bus states
        self.after: dict[str, list[str]] = {}
        self.states = {bus.state: lane for lane in plan.lanes for bus in lane.task.buses}
        for lane in plan.lanes:
            for step in lane.task.steps:
                self.lane_of[step.name] = lane
                edges = [plan.edges[number] for _, number in step.inputs]
                edges = [edge for edge in edges if edge.kind not in ("loop", "aligned", "goal")]
                coming = [edge for edge in edges if edge.ages] or edges
                self.before[step.name] = [self.owner(edge.source) for edge in coming]
        for node, writers in self.before.items():
            for writer in writers:
                self.after.setdefault(writer, []).append(node)
        self._origins = self._reach()
        self.outside: dict[str, list[str]] = {}  # node -> nodes of other lanes, streams, bus states
        for lane in plan.lanes:  # nodes stand in their order
            for step in lane.task.steps:
                self.outside[step.name] = self._outside(lane, step.name)

    def owner(self, source: str) -> str:
        """The node, the stream's role or the bus state that a source is of."""
        return source if source in self.states else source.split(".")[0]

    def seen(self, owner: str, lane: LanePlan) -> str:
        """What a lane reads of an owner, as the analysis calls it: its hop, if it is in another
        process."""
        hop = self.hops.get((owner, self.plan.process_of(lane.name)))
        return hop.name if hop is not None else owner

    def lanes_behind(self, owner: str) -> set[str]:
        """The lanes that data goes through on its way to a node or bus state, its own included."""
        found, todo, lanes = {owner}, [owner], set()
        while todo:
            name = todo.pop()
            lane = self.lane_of.get(name) or self.states.get(name)
            lanes |= {lane.name} if lane is not None else set()
            more = set(self.before.get(name, ())) - found
            found |= more
            todo += more
        return lanes

    def origins(self, name: str) -> frozenset[str]:
        """The streams and bus states whose data reaches a node."""
        return self._origins.get(name, frozenset({name}))

    def _outside(self, lane: LanePlan, node: str) -> list[str]:
        """What reaches a node in one firing of its lane, directly or through nodes before it."""
        found: dict[str, None] = {}
        for owner in self.before[node]:
            if self.lane_of.get(owner) is lane:
                found |= dict.fromkeys(self.outside[owner])
            elif self.states.get(owner) is not lane:
                found[owner] = None
        return list(found)

    def _reach(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {node: set() for node in self.before}
        for start in [*self.plan.streams, *self.states]:
            todo = deque(self.after.get(start, ()))
            while todo:
                node = todo.popleft()
                if start not in found[node]:
                    found[node].add(start)
                    todo.extend(self.after.get(node, ()))
        return {node: frozenset(starts) for node, starts in found.items()}

    def way(self, start: str, end: str, nodes: set[str]) -> list[str]:
        """A shortest way from a stream or bus state to a node, by which some of its data comes:
        through nodes fused with some of `nodes`, in their lanes; empty if there is none."""
        lanes = {self.lane_of[node].name for node in nodes if node in self.lane_of}
        ways = deque([[start]])
        seen = {start}
        while ways:
            way = ways.popleft()
            if way[-1] == end:
                return way
            for node in self.after.get(way[-1], ()):
                if node not in seen and self.lane_of[node].name in lanes:
                    seen.add(node)
                    ways.append([*way, node])
        return []

    def ends(self) -> list[tuple[str, str]]:
        """(last node, actuator): every command; and, without an actuator (""), every node whose
        outputs nobody ages by."""
        found = []
        commanding = set()
        for lane in self.plan.lanes:
            for bus in lane.task.buses:
                if bus.command_edge >= 0:
                    node = self.owner(self.plan.edges[bus.command_edge].source)
                    commanding.add(node)
                    found.append((node, bus.role))
        idle = [n for n in self.before if n not in commanding and not self.after.get(n)]
        return found + [(node, "") for node in idle]
