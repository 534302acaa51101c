"""The graph whose recordings the command line's tests look at."""

from haihe import Graph, camera, servos
from haihe.pipelines.nodes.pursue import Pursue
from haihe.pipelines.worlds.ideal import ideal_detector

with Graph("follow") as g:
    front, neck = camera("front"), servos("neck")
    neck.command(Pursue()(ideal_detector(front.image), neck.state))
