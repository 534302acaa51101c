"""Servo buses."""
