"""Distil the corrector: with the operator into one network pass, or a flow into few steps.

dvc repro distill
"""

from pathlib import Path
from typing import Any, TypeVar

from ups.data.latents import read_latents
from ups.errors import ParameterError
from ups.models.codec import Codec
from ups.models.flow import FlowCorrector
from ups.models.operator import LatentOperator
from ups.models.teacher import Corrector, Teacher, load_corrector
from ups.models.weights import is_skipped, load_model, read_config
from ups.parameters.distill import ConsistencyStudent, Distill, MergedStudent
from ups.parameters.section import Section
from ups.stages.machine import project_machine
from ups.stages.runner import Inputs, main
from ups.stages.skipping import STEADY, is_for_steady, skip
from ups.stages.training import Execution
from ups.training.consistency import ConsistencyObjective
from ups.training.residuals import Residuals
from ups.training.student import StudentObjective

NAME = "distill"
INPUTS = {
    "latents": "artifacts/encode_latents/latents.h5",
    "codec": "artifacts/train_codec/model.safetensors",
    "codec_config": "artifacts/train_codec/config.json",
    "operator": "artifacts/train_operator/model.safetensors",
    "operator_config": "artifacts/train_operator/config.json",
    "corrector": "artifacts/train_diffusion/model.safetensors",
    "corrector_config": "artifacts/train_diffusion/config.json",
}
# A student may lose 5 % of one-step accuracy against its teacher.
MAX_ERROR_RATIO = 1.05


class Params(Section):
    """What this stage reads of params/base.yaml."""

    seed: int
    distill: Distill


def run(params: Params, inputs: Inputs, outputs: Path) -> dict[str, Any]:
    """Train the student from the operator's weights; the metrics compare it with teacher and operator."""
    if is_for_steady(inputs["operator"].parent):
        return skip(NAME, outputs, STEADY)
    if is_skipped(inputs["corrector"].parent):
        return skip(NAME, outputs, "there is no corrector to distil")
    if params.distill.optimization.epochs == 0:
        return skip(NAME, outputs, "distill.optimization.epochs is 0")
    machine = project_machine()
    folders = {key: inputs[key].parent for key in ("operator", "corrector")}
    operator = load_model(folders["operator"], LatentOperator).to(machine.device)
    codec = load_model(inputs["codec"].parent, Codec).keep_grid().to(machine.device)
    corrector = load_corrector(folders["corrector"]).to(machine.device)
    train, validation = (read_latents(inputs["latents"], split).to(machine.device) for split in ("train", "validation"))
    # The student is a network of its own: it starts from its teacher's weights and leaves that file alone.
    student: LatentOperator | FlowCorrector
    objective: StudentObjective | ConsistencyObjective
    settings = params.distill.student
    if isinstance(corrector, FlowCorrector):
        chosen = _fitting(settings, ConsistencyStudent, corrector)
        arguments = {**read_config(folders["corrector"])["arguments"], "steps": chosen.steps, "solver": "euler"}
        student = FlowCorrector(**arguments)
        student.load_state_dict(corrector.state_dict())
        known, held_out = (Residuals(operator, latents, codec) for latents in (train, validation))
        objective = ConsistencyObjective(corrector, known, held_out, chosen.steps)
    else:
        arguments = read_config(folders["operator"])["arguments"]
        student = load_model(folders["operator"], LatentOperator).requires_grad_(True)
        num_taus = _fitting(settings, MergedStudent, corrector).num_taus
        objective = StudentObjective(Teacher(operator, corrector, codec), train, validation, num_taus)
    execution = Execution(NAME, params, inputs, outputs, machine)
    trained = execution.train(
        student, objective.loss, objective.validate, len(objective.train), params.distill.optimization
    )
    last = trained.history.rows[-1]
    metrics = execution.finish(trained, arguments)
    # Errors are compared as RMSE; the history holds mean squares.
    ratio = (last["val_student_error"] / last["val_teacher_error"]) ** 0.5
    return {
        **metrics,
        "error_over_teacher": ratio,
        "keeps_teacher_accuracy": ratio <= MAX_ERROR_RATIO,
        "distance_over_operator_distance": (last["val_loss"] / max(last["val_operator_distance"], 1e-30)) ** 0.5,
    }


S = TypeVar("S", MergedStudent, ConsistencyStudent)


def _fitting(settings: MergedStudent | ConsistencyStudent, kind: type[S], corrector: Corrector) -> S:
    """Return the student's settings if they are for this kind of corrector."""
    if not isinstance(settings, kind):
        raise ParameterError(
            f"distill.student.name = {settings.name!r} does not fit the {type(corrector).__name__} that "
            "train_diffusion wrote. `ups params check` says which of both sections to change."
        )
    return settings


if __name__ == "__main__":
    main(NAME, Params, INPUTS, run)
