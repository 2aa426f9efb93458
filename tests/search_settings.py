"""Parameters of a small search, for tests that change some of them."""

from ups.parameters.evaluate_ttc import EvaluateTTC

NO_REWARDS = {
    "conservation": 0.0,
    "dissipation": 0.0,
    "total_variation": 0.0,
    "maximum_principle": 0.0,
    "pde_residual": 0.0,
    "positivity": 0.0,
    "learned": 0.0,
    "auto": 0.0,
}
_SETTINGS = {
    "candidates": 4,
    "beam": 2,
    "horizon": 1,
    "discount": 0.9,
    "noise_std": [0.1],
    "tau_range": [0.15, 0.85],
    "steps": None,
    "max_evaluations": 500,
    "margin": None,
    "adaptive": None,
    "protocols": ["rollout_ic"],
}


def search_settings(rewards: dict[str, float] | None = None, **changes) -> EvaluateTTC:
    """Return the settings with changes; `rewards` has the weights that are not 0, by default conservation's alone."""
    weights = {**NO_REWARDS, **(rewards or {"conservation": 1.0})}
    return EvaluateTTC.model_validate({**_SETTINGS, "rewards": weights, **changes})
