"""Ready graphs for robots."""
