"""Committed training scripts and the procedural data they use."""
