"""`ups prune`: what sweeps left behind and nobody asks for any more, and removing it.

ups prune --keep golden          # what would go, and how many bytes
ups prune --keep golden --yes    # remove it
"""

from __future__ import annotations

from typing import Annotated

import typer


def prune(
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="A variant or results such as golden-42 that stay; repeatable.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it. Without this, nothing is touched.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Remove workspaces, results, logs and snapshots of sweeps. What is in DVC's cache stays and need not run again.

    With a snapshot goes the only copy of uncommitted code that a run was made from.
    """
    import json
    from dataclasses import asdict

    from ups.pipeline import prune as pruning

    items = pruning.survey(keep or [])
    gone = pruning.remove(items) if yes else [item for item in items if not item.in_use]
    total = sum(item.bytes for item in gone)
    if as_json:
        shown = [{**asdict(item), "paths": [str(path) for path in item.paths]} for item in items]
        removed = [f"{item.kind} {item.name}" for item in gone] if yes else []
        print(json.dumps({"dry_run": not yes, "bytes": total, "items": shown, "removed": removed}, indent=2))
        return
    for item in items:
        if item.kind != "description":
            state = "in use, stays" if item.in_use else _size(item.bytes) if item.paths else ""
            print(f"{item.kind:<11}  {item.name}  {state}".rstrip())
    described = [item.bytes for item in items if item.kind == "description"]
    if described:
        print(f"description  of {len(described)} executions of these  {_size(sum(described))}")
    if yes:
        print(f"Removed {len(gone)} things, {_size(total)}. DVC's cache and .ups/executions.jsonl are as they were.")
    else:
        print(f"{len(gone)} things, {_size(total)}, would go. Add --yes to remove them.")


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
