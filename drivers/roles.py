"""Devices by role, as a graph names them: `camera("front")`, `servos("neck")`.

A role is bound by the unit profile to a driver, a port, limits and a safe action; a graph never
names hardware.
"""

from haihe.runtime.graph import DeviceKind, Graph, wiring
from haihe.runtime.types import Image, JointCommand, JointState

CAMERA = DeviceKind("camera", {"image": Image}, stream=True)
SERVOS = DeviceKind("servos", {"state": JointState}, {"command": JointCommand})
KINDS = {kind.name: kind for kind in (CAMERA, SERVOS)}


class Camera:
    """A camera of the unit."""

    def __init__(self, graph: Graph, role: str) -> None:
        self._graph, self._role = graph, role

    @property
    def image(self) -> Image:
        """The newest picture."""
        image: Image = self._graph.state(self._role, "image")
        return image


class Servos:
    """A group of servos of the unit."""

    def __init__(self, graph: Graph, role: str) -> None:
        self._graph, self._role = graph, role

    @property
    def state(self) -> JointState:
        """Measured positions, velocities, loads; read in every cycle."""
        state: JointState = self._graph.state(self._role, "state")
        return state

    def command(self, value: JointCommand, /) -> None:
        """Connect the command; it passes the guard before it reaches the bus."""
        self._graph.command(self._role, "command", value)


def camera(role: str) -> Camera:
    """The camera in that role."""
    graph = wiring(f"camera({role!r})")
    graph.use_device(role, CAMERA)
    return Camera(graph, role)


def servos(role: str) -> Servos:
    """The servo group in that role."""
    graph = wiring(f"servos({role!r})")
    graph.use_device(role, SERVOS)
    return Servos(graph, role)
