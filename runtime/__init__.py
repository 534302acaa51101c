"""Floor 1: types, contracts, graph, plan, executors, guard, recorder. Knows no device."""
