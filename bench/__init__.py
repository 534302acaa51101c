"""Floor 5: benchmarks."""
