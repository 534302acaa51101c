"""Find what a text names, `module:qualname`; modules that stand beside a file are found too.

The file's folder goes on the path and a module is imported under its own name, so that other
processes and replays find its nodes again. Two files of one name are refused.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from haihe.pipelines.graph_file.params import near
from haihe.runtime.errors import PlanError


def import_beside(name: str, folder: Path | None) -> ModuleType:
    """The module of that name, as seen from `folder`. Raises PlanError, ModuleNotFoundError."""
    top = name.partition(".")[0]
    main = sys.modules.get("__main__")
    file = None
    if folder is not None:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        here = (folder / f"{top}.py", folder / top / "__init__.py")
        file = next((f for f in here if f.is_file()), None)
    is_main = file == _file_of(main) if file else getattr(_file_of(main), "stem", "") == name
    if main is not None and is_main and name == top and top not in sys.modules:
        return main  # `python app.py`: its nodes must not be defined twice
    loaded = sys.modules.get(top)
    if file is not None and loaded is not None and _file_of(loaded) != file:
        raise PlanError(
            f"a module named {top!r} is loaded already ({loaded.__file__}). Rename the file."
        )
    return importlib.import_module(name)


class Finder:
    """Finds what `module:qualname` names, as seen from a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def __call__(self, text: str) -> Any:
        """The class or function. Raises PlanError."""
        module_name, colon, qualname = text.partition(":")
        parts = module_name.split(".")
        if not colon or not all(part.isidentifier() for part in parts):
            raise PlanError(f"{text!r} names no thing of a module. Write it as app:aim.")
        found: Any = self._module(module_name)
        for part in qualname.split("."):
            if not hasattr(found, part):
                raise PlanError(f"{module_name} has no {qualname!r}. {near(part, _names(found))}")
            found = getattr(found, part)
        return found

    def _module(self, name: str) -> ModuleType:
        try:
            return import_beside(name, self.folder)
        except PlanError:
            raise
        except ModuleNotFoundError as exc:
            if exc.name and f"{name}.".startswith(f"{exc.name}."):
                beside = sorted(f.stem for f in self.folder.glob("*.py")) if self.folder else []
                where = f" in {self.folder}" if self.folder else ""
                raise PlanError(f"no module {name!r}{where}. {near(name, beside)}") from exc
            raise PlanError(f"importing {name}: {exc}. Install it, or mend the import.") from exc
        except Exception as exc:  # a module raises anything
            raise PlanError(f"importing {name}: {type(exc).__name__}: {exc}") from exc


def _names(thing: Any) -> list[str]:
    """What a person may have meant: nodes of a module first, else its public names."""
    names = [name for name, value in vars(thing).items() if hasattr(value, "__haihe_node__")]
    return names or [name for name in vars(thing) if not name.startswith("_")]


def _file_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if file else None


find_object = Finder()
