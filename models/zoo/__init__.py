"""Model manifests, found by name."""
