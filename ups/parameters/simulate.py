"""Parameters of the stage `simulate`."""

from typing import Annotated, Literal

from pydantic import Field

from ups.parameters.section import NonNegative, Positive, PositiveFloat, Section


class Simulate(Section):
    """The data set that is made when `data.path` is the stage's own file.

    Attributes:
        seed: of the initial conditions. Apart from the seed of the training, so that several training seeds are
            compared on the same data, as they are with a data file.
        samples: trajectories of each regime; the same initial conditions in all.
        points: stored grid points along each axis, at cell centres.
        frames: stored frames, from t = 0 to `task.final_time`; a steady problem has one.
        method: `exact` (Cole-Hopf for Burgers, a shift for advection, d'Alembert for the wave equation),
            `finite_volume` (Burgers, Darcy), `splitting` (diffusion-reaction) or `spectral` (Navier-Stokes).
        nodes: quadrature nodes of the Cole-Hopf integral.
        refinement: cells or points per stored point along each axis; not for `exact`.
        substeps: `splitting` and `spectral`: time steps from one frame to the next.
        courant: `finite_volume` of Burgers' equation: Courant number.
        batch_size: trajectories solved at a time; bounds the memory, does not change the data.
        check_samples: trajectories, drawn by seed, whose stored values are compared with the reference.
        max_error: largest nRMSE of a stored frame, mean over the checked trajectories, that is accepted.
    """

    seed: NonNegative
    samples: Positive
    points: Annotated[int, Field(ge=8)]
    frames: Annotated[int, Field(ge=2)]
    method: Literal["exact", "finite_volume", "splitting", "spectral"]
    nodes: Positive
    refinement: Positive
    substeps: Positive
    courant: Annotated[float, Field(gt=0, le=1)]
    batch_size: Positive
    check_samples: Positive
    max_error: PositiveFloat
