"""Edges between lanes."""
