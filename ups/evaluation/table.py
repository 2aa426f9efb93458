"""The results table, from the metrics files of `evaluate` and `evaluate_ttc`. Needs nothing but Python.

python -m ups.evaluation.table artifacts              # aligned text
python -m ups.evaluation.table artifacts --markdown   # for the README
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ups.errors import ArtifactError
from ups.evaluation.names import model_label, model_order

PROTOCOLS = ("one_step", "rollout_ic", "pdebench", "steady")
_TTC = {
    "base": "TTC base",
    "search": "TTC search",
    "random": "TTC random choice",
    "mean": "TTC mean of candidates",
    "oracle": "TTC oracle",
    "equal_compute": "TTC equal compute",
}
_NOTHING = "–"


@dataclass(frozen=True)
class ResultsTable:
    """A header, rows of text, and notes below.

    Attributes:
        header: one label per column.
        rows: as many cells each as the header.
        notes: sentences to print under the table.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the table with aligned columns."""
        lines = [self.header, *self.rows]
        width = [max(len(line[column]) for line in lines) for column in range(len(self.header))]
        shown = ["  ".join(_align(cell, width[at], at) for at, cell in enumerate(line)).rstrip() for line in lines]
        shown.insert(1, "  ".join("-" * size for size in width))
        return "\n".join([*shown, *self.notes])

    def markdown(self) -> str:
        """Return the table in GitHub's markdown."""
        rule = "|".join("---" if column == 0 else "---:" for column in range(len(self.header)))
        lines = [self.header, *self.rows]
        shown = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
        shown.insert(1, f"|{rule}|")
        return "\n".join([*shown, *(f"\n{note}" for note in self.notes)])


def read_results(artifacts: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the metrics of `evaluate` and, if there are any, of `evaluate_ttc`.

    Raises:
        ArtifactError: if `evaluate` has no metrics yet or a file is not JSON.
    """
    evaluate = artifacts / "evaluate" / "metrics.json"
    if not evaluate.is_file():
        raise ArtifactError(f"{evaluate} does not exist. It is made by the stage `evaluate`: run `dvc repro evaluate`.")
    search = artifacts / "evaluate_ttc" / "metrics.json"
    return _read(evaluate), _read(search) if search.is_file() else None


def results_table(evaluate: Mapping[str, Any], search: Mapping[str, Any] | None = None) -> ResultsTable:
    """Build the table: nRMSE with its standard error over trajectories per protocol, and the cost.

    Args:
        evaluate: metrics of the stage `evaluate`, model -> protocol -> metric -> {mean, stderr}.
        search: metrics of the stage `evaluate_ttc`, mode -> protocol -> metric -> {mean, stderr}.
    """
    models = sorted((name for name in evaluate if model_label(name)), key=model_order)
    sources: list[tuple[Mapping[str, Any], str, str]] = [(evaluate, name, model_label(name)) for name in models]
    if search is not None:
        sources += [(search, mode, label) for mode, label in _TTC.items() if mode in search]
    protocols = [name for name in PROTOCOLS if any(name in source[key] for source, key, _ in sources)]
    header = ["model", *(f"nRMSE {name}" for name in protocols)]
    if "pdebench" in protocols:
        header.append("PDEBench's own code")
    header += ["ms / trajectory", "network evaluations"]
    rows = [_row(source[key], label, protocols) for source, key, label in sources]
    if "reconstruction" in evaluate:
        cells = [_estimate(evaluate["reconstruction"].get("nrmse"))] + [""] * (len(header) - 2)
        rows.append(("codec reconstruction (every frame)", *cells))
    return ResultsTable(tuple(header), tuple(rows), tuple(_notes(evaluate, protocols)))


def _row(results: Mapping[str, Any], label: str, protocols: list[str]) -> tuple[str, ...]:
    cells = [label]
    for name in protocols:
        found = results.get(name, {})
        diverged = found.get("diverged")
        cells.append(f"diverged ({diverged})" if diverged else _estimate(found.get("nrmse")))
    if "pdebench" in protocols:
        value = results.get("pdebench", {}).get("pdebench_nrmse", {}).get("mean")
        cells.append(_NOTHING if value is None else f"{value:.2e}")
    # Costs grow with the number of steps: show those of the last protocol in the table, the one the others lead up to.
    cost = results.get(protocols[-1], {}) if protocols else {}
    seconds, evaluations = cost.get("seconds_per_trajectory"), cost.get("evaluations_per_trajectory")
    cells.append(_NOTHING if seconds is None else f"{1e3 * seconds:.3g}")
    cells.append(_NOTHING if evaluations is None else f"{evaluations:g}")
    return tuple(cells)


def _notes(evaluate: Mapping[str, Any], protocols: list[str]) -> list[str]:
    notes = ["nRMSE: mean over trajectories ± standard error; costs: protocol " + protocols[-1] + ", batched."]
    if "pdebench" in protocols:
        notes.append(
            "PDEBench's own code adds up the means of its batches of 50 and divides by one batch too few; that column "
            "is for comparing with numbers from there."
        )
    share = _codec_share(evaluate, protocols[-1])
    if share is not None:
        notes.append(f"The codec's reconstruction error is {share:.1%} of the operator's error ({protocols[-1]}).")
    choice = evaluate.get("finite_volume_choice", {})
    for key, words in (("equal_cost", "equal cost"), ("equal_error", "equal error")):
        if key in choice:
            cells = choice[key].get("cells")
            reached = "no candidate" if cells is None else f"{cells} cells"
            notes.append(f"Finite volumes at {words} (chosen on validation against {choice['against']}): {reached}.")
    missing = evaluate.get("not_applicable", {})
    notes += [
        f"Not in this table: {missing[name]}." for name in ("finite_volume", "conserved_error") if name in missing
    ]
    gate = evaluate.get("corrector", {})
    if gate.get("status") == "skipped":
        notes.append("There is no corrector: its stage was skipped.")
    elif gate:
        notes += _what_pays(gate, evaluate.get("assembly"))
    return notes


def _what_pays(one_step: Mapping[str, Any], assembly: Mapping[str, Any] | None) -> list[str]:
    """Say what the corrector does one step ahead, and what rollouts decided about it."""
    verdict = "beats" if one_step["beats_zero_correction"] else "does not beat"
    ahead = (
        f"One step ahead on latents of validation, the corrector {verdict} the zero correction (explained residual "
        f"{one_step['explained_residual']:.3f})"
    )
    if assembly is None:
        return [f"{ahead}. These results are older than the decision by rollouts: run `dvc repro evaluate`."]
    return [f"{ahead}; decoded rollouts decide.", assembly["reason"]]


def _codec_share(evaluate: Mapping[str, Any], protocol: str) -> float | None:
    """Return the reconstruction error over the operator's: near 1, the codec is what limits the surrogate."""
    codec = evaluate.get("reconstruction", {}).get("nrmse", {}).get("mean")
    operator = evaluate.get("operator", {}).get(protocol, {}).get("nrmse", {}).get("mean")
    return codec / operator if codec is not None and operator else None


def _estimate(value: Mapping[str, Any] | None) -> str:
    if not value or value.get("mean") is None:
        return _NOTHING
    error = value.get("stderr")
    return f"{value['mean']:.2e}" + ("" if error is None else f" ± {error:.1e}")


def _align(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ArtifactError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} must hold an object, not {type(content).__name__}")
    return content


def main(arguments: list[str]) -> int:
    folder = Path(next((argument for argument in arguments if not argument.startswith("-")), "artifacts"))
    try:
        table = results_table(*read_results(folder))
    except ArtifactError as error:
        print(error, file=sys.stderr)
        return 1
    print(table.markdown() if "--markdown" in arguments else table.text())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
