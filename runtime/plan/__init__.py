"""From a graph to a plan: lanes, order, edges, generated stepping code."""
