"""The equations: what each field is, what is conserved, what may only fall, and which numbers it needs.

Everything that has to know one of these asks here: parameters, readers, the audit, metrics, rewards and baselines. How
a quantity is computed from fields is in `ups.data.quantities`; what makes data of an equation in `ups.data.problems`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EquationName = Literal["burgers", "advection", "diffusion_reaction", "wave", "darcy", "navier_stokes"]


@dataclass(frozen=True)
class Channel:
    """One field.

    Attributes:
        name: its name in files and tables.
        unit: its unit; "1" is dimensionless.
        positive: whether the equation keeps it from becoming negative.
        given: whether it is a coefficient that varies in space: part of the problem, not of its solution.
    """

    name: str
    unit: str = "1"
    positive: bool = False
    given: bool = False


@dataclass(frozen=True)
class Coefficient:
    """One number of an equation.

    Attributes:
        name: its name in parameters and files.
        unit: in terms of the grid's length and the time unit.
        positive: whether it has to be above 0.
    """

    name: str
    unit: str
    positive: bool = False


@dataclass(frozen=True)
class Equation:
    """One partial differential equation.

    Attributes:
        formula: the equation.
        rank: dimensions of space.
        periodic: whether the domain is periodic; otherwise the field is 0 on its boundary.
        channels: the fields, in the order in which they are stored.
        coefficients: its numbers, in the order in which models see them.
        conserved: names of the quantities that do not change in time (`ups.data.quantities`), the first one is that of
            the metric `conserved_error`.
        dissipated: name of a quantity that may only fall; None where there is none.
        steady: whether there is no time in it.
    """

    formula: str
    rank: int
    periodic: bool
    channels: tuple[Channel, ...]
    coefficients: tuple[Coefficient, ...]
    conserved: tuple[str, ...]
    dissipated: str | None = None
    steady: bool = False

    @property
    def coefficient_names(self) -> tuple[str, ...]:
        return tuple(coefficient.name for coefficient in self.coefficients)

    @property
    def channel_names(self) -> tuple[str, ...]:
        return tuple(channel.name for channel in self.channels)

    @property
    def unknown(self) -> tuple[int, ...]:
        """Positions of the fields that a solution consists of."""
        return tuple(at for at, channel in enumerate(self.channels) if not channel.given)


EQUATIONS: dict[str, Equation] = {
    "burgers": Equation(
        formula="u_t + (u^2/2)_x = (viscosity/pi) u_xx",
        rank=1,
        periodic=True,
        channels=(Channel("u"),),
        coefficients=(Coefficient("viscosity", "length^2/time", positive=True),),
        conserved=("mean",),
        dissipated="square",
    ),
    "advection": Equation(
        formula="u_t + velocity u_x = 0",
        rank=1,
        periodic=True,
        channels=(Channel("u"),),
        coefficients=(Coefficient("velocity", "length/time"),),
        conserved=("mean", "square"),
    ),
    "diffusion_reaction": Equation(
        formula="u_t = diffusivity u_xx + reaction_rate u (1 - u)",
        rank=1,
        periodic=True,
        channels=(Channel("u", positive=True),),
        coefficients=(Coefficient("diffusivity", "length^2/time"), Coefficient("reaction_rate", "1/time")),
        conserved=(),
    ),
    "wave": Equation(
        formula="u_t = v, v_t = speed^2 u_xx",
        rank=1,
        periodic=True,
        channels=(Channel("u"), Channel("v")),
        coefficients=(Coefficient("speed", "length/time", positive=True),),
        conserved=("mean_velocity", "energy"),
    ),
    "darcy": Equation(
        formula="-div(a grad u) = force, u = 0 on the boundary",
        rank=2,
        periodic=False,
        channels=(Channel("a", positive=True, given=True), Channel("u", positive=True)),
        coefficients=(Coefficient("force", "1/length^2", positive=True),),
        conserved=(),
        steady=True,
    ),
    "navier_stokes": Equation(
        formula="w_t + (velocity . grad) w = viscosity laplace(w), w = curl(velocity), div(velocity) = 0",
        rank=2,
        periodic=True,
        channels=(Channel("vorticity"),),
        coefficients=(Coefficient("viscosity", "length^2/time", positive=True),),
        conserved=("mean",),
        dissipated="square",
    ),
}
