"""The whole parameter file: one field per section. Stages import only the sections they read."""

import math
from typing import Self

from pydantic import Field, model_validator

from ups.parameters.distill import Distill
from ups.parameters.equations import EQUATIONS
from ups.parameters.evaluate import Evaluate
from ups.parameters.evaluate_ttc import EvaluateTTC
from ups.parameters.prepare_data import PrepareData
from ups.parameters.section import Section
from ups.parameters.shared import SAME, Compute, Data, Latent, Task, listed
from ups.parameters.simulate import Simulate
from ups.parameters.train_baseline import TrainBaseline
from ups.parameters.train_codec import TrainCodec
from ups.parameters.train_diffusion import TrainDiffusion
from ups.parameters.train_operator import TrainOperator
from ups.parameters.train_reward import TrainReward
from ups.parameters.train_steady_prior import TrainSteadyPrior


class Parameters(Section):
    """Every parameter of a pipeline execution."""

    seed: int = Field(ge=0)
    task: Task
    data: Data
    latent: Latent
    compute: Compute
    simulate: Simulate
    prepare_data: PrepareData
    train_codec: TrainCodec
    train_operator: TrainOperator
    train_diffusion: TrainDiffusion
    distill: Distill
    train_steady_prior: TrainSteadyPrior
    train_reward: TrainReward
    train_baseline: TrainBaseline
    evaluate: Evaluate
    evaluate_ttc: EvaluateTTC

    @model_validator(mode="after")
    def _check(self) -> Self:
        model = self.train_operator.model
        if self.latent.tokens % model.token_multiple:
            depths = list(getattr(model, "depths", []))
            raise ValueError(
                f"latent.tokens = {self.latent.tokens} must be divisible by {model.token_multiple}: every level but "
                f"the last of train_operator.model.depths = {depths} merges pairs of tokens"
            )
        frames = self.train_operator.frames_per_call
        if frames > 1 and self.train_diffusion.optimization.epochs:
            raise ValueError(
                f"train_operator.frames_per_call = {frames}: the corrector refines single steps. Set it to 1, or leave "
                "the corrector out with train_diffusion.optimization.epochs = 0"
            )
        self._check_joint_operator()
        self._check_corrector()
        self._check_regimes()
        self._check_learned_reward()
        self._check_steady_prior()
        return self

    def _check_regimes(self) -> None:
        """Refuse to train on values that a task of several regimes does not have.

        A task of one regime may meet the choice of another task's variants; `prepare_data` knows whether the file fits.
        """
        if len(self.task.regimes) == 1:
            return
        for name, values in (self.data.train_on or {}).items():
            known = self.task.coefficients.get(name)
            if known is None:
                raise ValueError(
                    f"data.train_on names {name!r}; the coefficients of '{self.task.equation}' are "
                    f"{list(self.task.coefficients)}"
                )
            for value in listed(values):
                if not any(math.isclose(value, other, rel_tol=SAME) for other in listed(known)):
                    raise ValueError(
                        f"data.train_on.{name} = {value:g} is none of task.coefficients.{name} = "
                        f"{list(listed(known))}: a regime that is trained on must be in the data"
                    )

    def _check_joint_operator(self) -> None:
        """Refuse to start the operator from weights that are not there or do not fit."""
        operator, joint = self.train_operator, self.train_codec.joint_operator
        if joint and self.latent.tokens % joint.model.token_multiple:
            raise ValueError(
                f"latent.tokens = {self.latent.tokens} must be divisible by {joint.model.token_multiple}, for "
                "train_codec.joint_operator.model"
            )
        if operator.initial == "fresh":
            return
        if joint is None:
            raise ValueError(
                "train_operator.initial = 'joint', but train_codec trains no operator: set train_codec.joint_operator, "
                "as the variant joint-operator does, or train_operator.initial to 'fresh'"
            )
        if joint.model != operator.model or not operator.conditioning or operator.frames_per_call > 1:
            raise ValueError(
                "train_operator.initial = 'joint' needs the operator that train_codec trains: the same train_operator."
                f"model as train_codec.joint_operator.model ({joint.model!r}), conditioning true, frames_per_call 1"
            )

    def _check_corrector(self) -> None:
        """Refuse a student of another kind of corrector, and a search that cannot pay for its candidates."""
        corrector, distill = self.train_diffusion, self.distill
        fitting = "consistency" if corrector.objective.name == "flow" else "merged"
        trained = corrector.optimization.epochs and distill.optimization.epochs
        if trained and distill.student.name != fitting:
            raise ValueError(
                f"distill.student.name = {distill.student.name!r}: the student of a {corrector.objective.name!r} "
                f"corrector is {fitting!r}. Change it, or train none with distill.optimization.epochs = 0"
            )
        if corrector.optimization.epochs:
            self.evaluate_ttc.check_budget(corrector.objective.evaluations)

    def _check_learned_reward(self) -> None:
        """Refuse a learned reward that nobody trains, and one that has too few candidates to rank."""
        epochs, search = self.train_reward.optimization.epochs, self.evaluate_ttc
        if search.rewards.learned and not epochs:
            raise ValueError(
                f"evaluate_ttc.rewards.learned = {search.rewards.learned:g} needs a trained reward: set "
                "train_reward.optimization.epochs above 0, or the weight to 0"
            )
        if epochs and search.candidates < 3:
            raise ValueError(
                f"train_reward ranks the best, the median and the worst of evaluate_ttc.candidates = "
                f"{search.candidates}: set that to 3 or more, or train_reward.optimization.epochs to 0"
            )

    def _check_steady_prior(self) -> None:
        """Refuse to train a map from problems to steady solutions of an equation that has a time."""
        epochs = self.train_steady_prior.optimization.epochs
        if epochs and not EQUATIONS[self.task.equation].steady:
            raise ValueError(
                f"train_steady_prior.optimization.epochs = {epochs} needs a steady equation, and "
                f"'{self.task.equation}' has a time: choose a steady task (--task darcy2d), or set the epochs to 0"
            )
