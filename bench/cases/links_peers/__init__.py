"""The ways over which bench/cases/links.py sends frames: one file each, ours among them."""
