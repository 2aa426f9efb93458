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
from ups.training.pairs import Pairs


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

    def _compare(self, student: LatentOperator, pairs: Pairs) -> dict[str, float]:
        frames, coefficients = pairs.window(pairs.probe(), 1)
        z = frames[:, 0]
        z_hat = self.teacher.predictor.step(z, coefficients)
        by_teacher, by_student = self.teacher.finish(z_hat), student(z, coefficients)

        def error(tokens: Tensor) -> float:
            legible = self.teacher.predictor.legible(tokens)
            return float(mse(student.standardize(legible), student.standardize(frames[:, 1])))

        def distance(tokens: Tensor) -> float:
            return float(mse(student.standardize(tokens), student.standardize(by_teacher)))

        return {
            "distance": distance(by_student),
            "operator_distance": distance(z_hat),
            "student_error": error(by_student),
            "teacher_error": error(by_teacher),
        }
