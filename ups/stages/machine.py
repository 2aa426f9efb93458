"""The machine this project computes on."""

from ups.parameters.files import BASE, read_yaml, validate_section
from ups.parameters.shared import Compute
from ups.training.machine import Machine


def project_machine() -> Machine:
    """Set up this process for the `compute` section of params/base.yaml and return the machine."""
    return Machine.from_parameters(validate_section(Compute, read_yaml(BASE)["compute"]))
