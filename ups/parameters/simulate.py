"""Parameters of the stage `simulate`."""

from typing import Annotated, Literal

from pydantic import Field

from ups.parameters.section import NonNegative, Positive, PositiveFloat, Section


class Simulate(Section):
    """The data set that is made when `data.path` is the stage's own file.

    Attributes:
        seed: of the initial conditions. Apart from the seed of the training, so that several training seeds are
            compared on the same data, as they are with a data file.
        samples: trajectories.
        points: stored grid points, at cell centres.
        frames: stored frames, from t = 0 to `task.final_time`.
        method: `exact` (Cole-Hopf for Burgers, a shift for advection) or `finite_volume` (Burgers only).
        nodes: `exact`: quadrature nodes of the Cole-Hopf integral.
        refinement: `finite_volume`: cells per stored point.
        courant: `finite_volume`: Courant number.
        batch_size: trajectories solved at a time; bounds the memory, does not change the data.
        check_samples: trajectories, drawn by seed, whose stored values are compared with the exact solution.
        max_error: largest nRMSE of a stored frame, mean over the checked trajectories, that is accepted.
    """

    seed: NonNegative
    samples: Positive
    points: Annotated[int, Field(ge=8)]
    frames: Annotated[int, Field(ge=2)]
    method: Literal["exact", "finite_volume"]
    nodes: Positive
    refinement: Positive
    courant: Annotated[float, Field(gt=0, le=1)]
    batch_size: Positive
    check_samples: Positive
    max_error: PositiveFloat
