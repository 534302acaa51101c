"""Unit profiles, found by name."""
