"""Recorder, reader and replay."""
