"""The numbers of a check, as a drawing shows them."""

from haihe.pipelines.check.report import Promise, Report, Verdict, weakest
from haihe.pipelines.check.text import ms
from haihe.pipelines.draw.drawing import Number, Numbers
from haihe.runtime.plan.model import Plan


def numbers_of(report: Report, plan: Plan) -> Numbers:
    """Ages, responses and places in use, each with its verdict."""
    promises = [*report.promises, *(p for chain in report.chains for p in chain.promises)]
    edges, nodes = {}, {}
    verdicts: dict[str, Verdict] = {}  # of a node's deadline
    for promise in promises:
        if promise.kind == "deadline":
            nodes[promise.subject] = _number(promise)
            verdicts[promise.subject] = promise.verdict
        else:
            edges[promise.subject] = _number(promise)
    lanes = {}
    steps = {lane.name: [step.name for step in lane.task.steps] for lane in plan.lanes}
    for lane in report.lanes:
        found = [verdicts[name] for name in steps.get(lane.name, ()) if name in verdicts]
        word = weakest(found).word if found else ""
        text = "unknown" if lane.response_ns is None else ms(lane.response_ns)
        lanes[lane.name] = Number(text, word)
    return Numbers(edges, nodes, lanes, f"{report.board}: {report.verdict}")


def _number(promise: Promise) -> Number:
    if promise.bound is None:
        return Number("no bound", promise.verdict.word)
    if promise.kind == "fifo":
        return Number(f"{promise.bound} of {promise.limit} places", promise.verdict.word)
    return Number(ms(promise.bound), promise.verdict.word)
