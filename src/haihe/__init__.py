"""haihe (海河): edge-AI runtime for robots and smart sensors."""

from pathlib import Path as _Path

__version__ = "0.1.0"
if not (_Path(__file__).parent / "runtime").is_dir():  # a checkout without symbolic links
    __path__.append(str(_Path(__file__).parents[2]))
