"""Decoders: pure functions from output tensors to detections."""
