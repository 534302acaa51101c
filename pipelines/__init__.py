"""Floor 4: reusable nodes, simulated worlds and ready graphs."""
