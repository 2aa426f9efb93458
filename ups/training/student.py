"""What the student is trained on: the teacher's corrected output.

A `residual` teacher takes one corrector step, so its trajectory has two points, z_hat and z_hat + drift, and mapping
both to the same end is the plain regression on that end; the student merges operator and corrector in one pass.
"""

import torch
from torch import Tensor

from ups.data.latents import Latents
from ups.models.operator import LatentOperator
from ups.models.teacher import Teacher
from ups.training.loop import Progress
from ups.training.losses import Term, Terms, mse
from ups.training.operator import Pairs


def num_taus(progress: float, schedule: tuple[int, ...]) -> int:
    """Return the number of tau draws at a share of the training: `schedule` in equal parts."""
    return schedule[min(int(progress * len(schedule)), len(schedule) - 1)]


class StudentObjective:
    """Loss and validation of the student, in standardised latent units of the operator.

    Args:
        teacher: frozen; its weights are never touched.
        train, validation: latents.
        schedule: number of tau draws the teacher's correction is averaged over, by part of the training.
    """

    def __init__(self, teacher: Teacher, train: Latents, validation: Latents, schedule: tuple[int, ...]) -> None:
        self.teacher, self.schedule = teacher, schedule
        self.train, self.validation = Pairs(train), Pairs(validation)

    def loss(self, student: LatentOperator, indices: Tensor, progress: Progress, generator: torch.Generator) -> Terms:
        frames, coefficients = self.train.window(indices, 1)
        count = num_taus(progress.fraction, self.schedule)
        taus = torch.rand(count, generator=generator, device=generator.device)
        with torch.no_grad():
            target = self.teacher.mean_step(frames[:, 0], coefficients, taus)
        predicted = student(frames[:, 0], coefficients)
        return {"distillation": Term(mse(student.standardize(predicted), student.standardize(target)))}

    def validate(self, student: LatentOperator) -> dict[str, float]:
        """Return the distance to the teacher on train and validation, and one-step errors against the truth.

        `val_operator_distance` is the operator's own distance to the teacher: a student above it has learnt nothing.
        """
        train = self._compare(student, self.train)
        validation = self._compare(student, self.validation)
        return {
            "train_loss": train["distance"],
            "val_loss": validation["distance"],
            "val_operator_distance": validation["operator_distance"],
            "val_student_error": validation["student_error"],
            "val_teacher_error": validation["teacher_error"],
        }

    def _compare(self, student: LatentOperator, pairs: Pairs, most: int = 2560) -> dict[str, float]:
        stride = max(1, len(pairs) // most)
        sums: dict[str, list[Tensor]] = {}
        for indices in torch.arange(0, len(pairs), stride, device=pairs.tokens.device).split(1024):
            frames, coefficients = pairs.window(indices, 1)
            z, truth = frames[:, 0], student.standardize(frames[:, 1])
            by_student = student.standardize(student(z, coefficients))
            by_teacher = student.standardize(self.teacher.step(z, coefficients))
            by_operator = student.standardize(self.teacher.operator(z, coefficients))
            for name, left, right in (
                ("distance", by_student, by_teacher),
                ("operator_distance", by_operator, by_teacher),
                ("student_error", by_student, truth),
                ("teacher_error", by_teacher, truth),
            ):
                sums.setdefault(name, []).append((left - right).square().mean((1, 2)))
        return {name: float(torch.cat(values).mean()) for name, values in sums.items()}
