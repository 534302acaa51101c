"""Frames shared by several protocols."""
