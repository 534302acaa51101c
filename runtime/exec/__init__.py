"""Executors of a plan: real time, virtual time."""
