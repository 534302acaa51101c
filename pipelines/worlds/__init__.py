"""Simulated worlds: plants and renderers joined to emulators."""
