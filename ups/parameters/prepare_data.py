"""Parameters of the stage `prepare_data`."""

from typing import Annotated

from pydantic import Field

from ups.parameters.section import Section


class PrepareData(Section):
    """How the data set is checked.

    Attributes:
        min_distance: smallest relative L2 distance between initial conditions of different splits. A closer pair is
            taken for a copy. Below 1e-6 it could not be told from rounding.
    """

    min_distance: Annotated[float, Field(ge=1e-6, lt=1)]
