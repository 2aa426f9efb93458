"""What has to be true of the working tree before anything runs."""

from ups.parameters.files import BASE, read_yaml
from ups.parameters.overlay import complete
from ups.pipeline import stages


def check() -> None:
    """Check the parameters in use, and that `dvc.yaml` says what the stages read.

    Raises:
        UpsError: naming what is wrong and how to mend it.
    """
    complete(read_yaml(BASE))
    stages.check()
