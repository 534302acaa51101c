"""Floor 2: models, their manifests, backends, pre- and post-processing."""
