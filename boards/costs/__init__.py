"""Figures per board: `reference.yaml` by others, BOARD.yaml promoted from a user's cost file."""
