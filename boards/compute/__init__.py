"""Compute profiles: a YAML file per board, its schema in `boards/compute_profile.py`."""
