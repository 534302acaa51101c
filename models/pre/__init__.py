"""Pre-processing."""
