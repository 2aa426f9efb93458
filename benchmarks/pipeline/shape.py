"""The shapes of the benchmark: which stage each variant changes, and what any tool could reach at best on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

# A stage and, in their order, the settings that its result depends on: the values of itself and of the stages above.
Execution = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class Shape:
    """A chain of stages and variants that change one parameter each.

    Attributes:
        name: for the table.
        stages: each reads the one before.
        variants: name -> the stage whose parameter it changes.
    """

    name: str
    stages: tuple[str, ...]
    variants: dict[str, str]

    def settings(self, variant: str) -> dict[str, str]:
        """Return the setting of each stage in a variant: the variant's own where it changes it, else `base`."""
        changed = self.variants[variant]
        return {stage: variant if stage == changed else "base" for stage in self.stages}

    def executions(self, variant: str) -> list[Execution]:
        """Return the executions that a variant needs, each after the one it reads from."""
        values = tuple(self.settings(variant).values())
        return [(stage, values[: place + 1]) for place, stage in enumerate(self.stages)]

    @cached_property
    def parents(self) -> dict[Execution, Execution | None]:
        """Return every distinct execution of all variants with the one that it reads from: a tree."""
        found: dict[Execution, Execution | None] = {}
        for variant in self.variants:
            above = None
            for execution in self.executions(variant):
                found[execution] = above
                above = execution
        return found

    @property
    def naive(self) -> int:
        return len(self.stages) * len(self.variants)

    def least_rounds(self, workers: int) -> int:
        """Return the shortest schedule of stages of length one.

        Always starting those with the longest chain below them first is optimal for a tree whose root comes first and
        tasks of equal length (Hu, Operations Research 9(6), 841-848, 1961).
        """
        height = dict.fromkeys(self.parents, 1)
        for execution in reversed(self.parents):  # children come after their parents
            above = self.parents[execution]
            if above is not None:
                height[above] = max(height[above], height[execution] + 1)
        done: set[Execution | None] = {None}
        rounds = 0
        while len(done) <= len(self.parents):
            ready = [one for one, above in self.parents.items() if one not in done and above in done]
            done.update(sorted(ready, key=lambda one: -height[one])[:workers])
            rounds += 1
        return rounds
