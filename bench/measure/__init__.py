"""From recordings to numbers."""
