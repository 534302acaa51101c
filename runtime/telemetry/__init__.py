"""Counters and histograms that are always on."""
