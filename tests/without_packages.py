"""Run a script as if only the library's own requirements were installed: python without_packages.py SCRIPT.

What torch, numpy, h5py, safetensors and pydantic require themselves is there; every other third-party package cannot
be found, as if it were not installed.
"""

import re
import runpy
import sys
from importlib import metadata

from ups.serving import PACKAGES


def closure(names):
    """Return the normalised names of distributions and of everything that they require without extras."""
    found, waiting = set(), list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            required = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # for another platform
        found.add(name)
        waiting += [re.split(r"[ ;<>=!~\[(]", text)[0] for text in required if "extra ==" not in text]
    return found


class Blind:
    """A finder that does not see some packages."""

    def __init__(self, finder, hidden):
        self.finder, self.hidden = finder, hidden

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.hidden:
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


def hide():
    """Make every package that the library does not need impossible to import; returns their names."""
    allowed = closure(PACKAGES)
    hidden = {
        package
        for package, owners in metadata.packages_distributions().items()
        if package != "ups" and not allowed & {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners}
    }
    sys.meta_path[:] = [Blind(finder, hidden) for finder in sys.meta_path]
    return hidden


if __name__ == "__main__":
    hidden = hide()
    early = hidden & {name.partition(".")[0] for name in sys.modules}
    assert {"mlflow", "dvc", "prefect", "pandas", "yaml", "scipy", "matplotlib", "typer"} <= hidden, (
        "a full environment"
    )
    assert not early & {"mlflow", "dvc", "prefect", "pandas", "yaml"}, early
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
