"""Reusable nodes."""
