"""Floor 2: compute boards, units, and the binding of a graph to them."""
