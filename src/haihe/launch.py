"""Temporary alias."""

from haihe.pipelines.launch import *  # noqa: F403
from haihe.pipelines.launch import prepare, run, simulate  # noqa: F401
