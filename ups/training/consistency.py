"""What the student of a flow is trained on: points of one of the teacher's paths that lead to the same end.

Heek, Hoogeboom, Salimans 2024, "Multistep consistency models", doi:10.48550/arXiv.2403.06807: [0, 1] is cut into as
many segments as the student takes steps, and from every point of a teacher's path inside a segment the student has to
reach the path's point at the segment's end. The teacher's path has at least two points in each segment, so two points
of one path are mapped to the same end. With one segment the end is that of the path.

Shapes: S samples, N tokens, D latent width, K + 1 points of a path.
"""

import math

import torch
from torch import Tensor

from ups.models.flow import FlowCorrector, trajectory
from ups.training.loop import Progress
from ups.training.losses import Term, Terms, mse
from ups.training.residuals import Residuals


def path_steps(teacher: int, student: int) -> int:
    """Return in how many steps the teacher's paths are made.

    At least its own number and two for each of the student's, and a multiple of the student's, so that its segments end
    at points of the path.
    """
    return student * max(2, math.ceil(teacher / student))


class ConsistencyObjective:
    """Loss and validation of the few-step student of a flow.

    The student is a flow of its own with `steps` Euler steps: a step from the start of a segment ends where the student
    says that the segment ends. Terms: `consistency`, the MSE of the ends that the student reaches, in units of `scale`.

    Args:
        teacher: frozen; its weights are never touched.
        train, validation: predictions of the operator and their residuals.
        steps: number of steps of the student.
    """

    def __init__(self, teacher: FlowCorrector, train: Residuals, validation: Residuals, steps: int) -> None:
        self.teacher, self.train, self.validation, self.steps = teacher, train, validation, steps
        self.points = path_steps(teacher.steps, steps)

    def loss(self, student: FlowCorrector, indices: Tensor, progress: Progress, generator: torch.Generator) -> Terms:
        z_hat = self.train.predicted[indices]
        eps = student.draw(z_hat, generator)
        per_segment, device = self.points // self.steps, generator.device
        first = per_segment * torch.randint(self.steps, (len(indices),), generator=generator, device=device)
        inside = first + torch.randint(1, per_segment, (len(indices),), generator=generator, device=device)
        with torch.no_grad():
            path = self._path(z_hat, eps)
        samples = torch.arange(len(indices), device=z_hat.device)
        end = path[first + per_segment, samples]
        # Two points of one path: the start of a segment, which is where sampling steps from, and one inside it.
        reached = [self._reach(student, path[at, samples], z_hat, at, first + per_segment) for at in (first, inside)]
        return {"consistency": Term((mse(reached[0], end) + mse(reached[1], end)) / 2)}

    def validate(self, student: FlowCorrector) -> dict[str, float]:
        """Return distances of the student's ends from the teacher's for the same noise, and one-step errors.

        `val_operator_distance` is that of the operator's prediction, which is all that a student that learnt nothing
        could offer; `val_untaught_distance` that of the teacher's own network when it takes as few Euler steps.
        """
        row = {"train_loss": self._distance(student, self.train), "val_loss": self._distance(student, self.validation)}
        z_hat, residual = (
            values[self.validation.probe] for values in (self.validation.predicted, self.validation.residual)
        )
        eps = self._eps(z_hat)
        end = self.teacher.correct(z_hat, eps) / self.teacher.scale
        start = self.teacher.noise * eps
        untaught = trajectory(lambda x, tau: self.teacher(x, z_hat, tau), start, self.steps, "euler")[-1]
        truth = residual / self.teacher.scale
        return {
            **row,
            "val_operator_distance": float(end.square().mean()),
            "val_untaught_distance": float(mse(untaught, end)),
            "val_student_error": float(mse(student.deterministic(z_hat) / student.scale, truth)),
            "val_teacher_error": float(mse(self.teacher.deterministic(z_hat) / self.teacher.scale, truth)),
        }

    def _path(self, z_hat: Tensor, eps: Tensor) -> Tensor:
        """Return the points of the teacher's paths, (K + 1, S, N, D)."""
        start = self.teacher.noise * eps
        return torch.stack(
            trajectory(lambda x, tau: self.teacher(x, z_hat, tau), start, self.points, self.teacher.solver)
        )

    def _reach(self, student: FlowCorrector, x: Tensor, z_hat: Tensor, at: Tensor, end: Tensor) -> Tensor:
        """Return where the student goes from points number `at` (S,) of paths to points number `end`."""
        tau, far = at / self.points, (end - at) / self.points
        return x + far[:, None, None] * student(x, z_hat, tau)

    def _distance(self, student: FlowCorrector, data: Residuals) -> float:
        z_hat = data.predicted[data.probe]
        eps = self._eps(z_hat)
        return float(mse(student.correct(z_hat, eps) / student.scale, self.teacher.correct(z_hat, eps) / student.scale))

    @staticmethod
    def _eps(z_hat: Tensor) -> Tensor:
        return torch.randn(z_hat.shape, generator=torch.Generator().manual_seed(0)).to(z_hat.device)
