"""Finds and loads the shared libraries this package is the Python face of."""

import ctypes
import os
from pathlib import Path


class Library:
    """One shared library with its C functions; loaded at the first call of `get()`.

    It is looked for where `variable` of the environment says, where `cmake --install` put it, next
    to this package, or in a build folder of the source tree.
    """

    def __init__(self, name, variable, prototypes, error):
        self.name = name
        self.variable = variable
        self.prototypes = prototypes
        self.error = error
        self._loaded = None

    def get(self):
        """The loaded library; raises `error` naming every place that was tried."""
        if self._loaded is not None:
            return self._loaded
        tried = []
        for path in self._candidates():
            try:
                loaded = ctypes.CDLL(str(path))
            except OSError as error:
                tried.append(str(error) if path.exists() else f"{path}: not there")
                continue
            for name, (result, arguments) in self.prototypes.items():
                function = getattr(loaded, name, None)
                if function is None:
                    raise self.error(f"{path}: has no {name}: another version of {self.name}")
                function.restype = result
                function.argtypes = arguments
            self._loaded = loaded
            return loaded
        raise self.error(
            f"{self.name} not found; set {self.variable} to it (tried: {'; '.join(tried)})")

    def _candidates(self):
        named = os.environ.get(self.variable)
        if named:
            # Named explicitly: nothing else will do.
            return [Path(named)]
        package = Path(__file__).resolve().parent
        try:
            from . import installed
        except ImportError:
            pass
        else:
            # `cmake --install` put the two where they are: another build's library will not do.
            return [(package / installed.LIBRARIES[self.name]).resolve()]
        found = [package / self.name, package.parent / self.name]
        root = package.parents[2]
        if (root / "CMakeLists.txt").exists():
            builds = [root / "build", *sorted(root.glob("build/*")), *sorted(root.glob("build-*"))]
            libraries = [build / "lib" / self.name for build in builds]
            # The newest build first.
            found += sorted(
                (path for path in libraries if path.exists()),
                key=lambda path: path.stat().st_mtime,
                reverse=True,
            )
        return found
