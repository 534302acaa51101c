"""Benchmarks: cases."""
