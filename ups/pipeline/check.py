"""What has to be true of the working tree before anything runs."""

from pathlib import Path

from ups.errors import DataError
from ups.parameters.files import BASE, read_yaml
from ups.parameters.overlay import complete
from ups.pipeline import stages


def check() -> None:
    """Check the parameters in use, that `dvc.yaml` says what the stages read, and that the data file is there.

    Raises:
        UpsError: naming what is wrong and how to mend it.
    """
    parameters = read_yaml(BASE)
    complete(parameters)
    stages.check()
    source = Path(parameters["data"]["path"])
    # A file under artifacts/ is made by the pipeline itself.
    if source.parts[:1] != ("artifacts",) and not source.exists():
        raise DataError(
            f"data.path = '{source}' does not exist. Put the file there, fetch it (`ups data list` names what "
            "`ups data fetch` can download), or set data.path back to artifacts/simulate/data.h5."
        )
