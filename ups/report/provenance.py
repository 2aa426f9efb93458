"""Where every number comes from: commit, command, data, seed, machine and versions of each run, and every file read."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ups.pipeline.lock import DVC_LOCK, file_hashes
from ups.pipeline.stages import DVC_YAML
from ups.report.elements import Html, absent, details, paragraph, section, table, tag
from ups.report.material import Material, md5
from ups.report.plan import when
from ups.report.runs import Run

_UNKNOWN = "not recorded"


def provenance_section(material: Material, command: str) -> Html:
    """Return the section; call it last, as it lists every file that the others read.

    Args:
        material: the files.
        command: what made this page.
    """
    records = {run: _records(material, run) for run in material.chosen.runs}
    runs = [_run_row(material, run, records[run]) for run in material.chosen.runs]
    files = sorted(material.used)
    listed = [_file_row(material, path, records) for path in files]
    return section(
        "provenance",
        "Where every number comes from",
        paragraph(
            [
                "This page was made by ",
                tag("code", command),
                ". The runs are made, or made again, by ",
                tag("code", material.chosen.command),
                ".",
            ]
        ),
        table(["run", "commit of the code", "data", "data md5", "machine"], runs, frozenset(range(5)), stacked=True),
        *_versions(records),
        _commands(material),
        details(
            f"Every file this page was made from ({len(files)})",
            table(["file", "md5", "stage ran (UTC)", "commit", "host"], listed, frozenset(range(5))),
            long=True,
        ),
    )


def _records(material: Material, run: Run) -> dict[str, dict[str, Any]]:
    found = {stage: material.json(run, stage, "provenance.json") for stage in material.stages()}
    return {stage: record for stage, record in found.items() if record is not None}


def _run_row(material: Material, run: Run, records: dict[str, dict[str, Any]]) -> list[str]:
    lock = material.lock(run)
    path, digest = _UNKNOWN, _UNKNOWN
    if lock is not None:
        deps = [entry["path"] for entry in lock.get("prepare_data", {}).get("deps", []) if "path" in entry]
        path = next((dep for dep in deps if not dep.endswith(".py")), _UNKNOWN)
        digest = str(file_hashes(lock).get(path, _UNKNOWN))
    commits = _joined(_commit(record) for record in records.values())
    machines = _joined(
        f"{record.get('host', _UNKNOWN)}, {record.get('device', _UNKNOWN)}" for record in records.values()
    )
    snapshot = f"{run.snapshot[:12]} (parameters); stages ran at {commits}" if run.snapshot else commits
    return [run.name, snapshot, path, digest, machines]


def _versions(records: dict[Run, dict[str, dict[str, Any]]]) -> list[Html]:
    seen: dict[str, dict[str, int]] = {}
    total = 0
    for by_stage in records.values():
        for record in by_stage.values():
            total += 1
            for package, version in {"python": record.get("python"), **(record.get("versions") or {})}.items():
                counts = seen.setdefault(package, {})
                counts[str(version)] = counts.get(str(version), 0) + 1
    if not seen:
        return [absent("No stage recorded its versions.")]
    one = [f"{package} {next(iter(counts))}" for package, counts in seen.items() if len(counts) == 1]
    mixed = [
        f"{package}: " + ", ".join(f"{version} in {count}" for version, count in counts.items())
        for package, counts in seen.items()
        if len(counts) > 1
    ]
    parts = [paragraph(f"Versions, the same in all {total} stage records: {', '.join(one)}.")] if one else []
    return [*parts, *(paragraph(f"MIXED VERSIONS, {line} stage records.") for line in mixed)]


def _commands(material: Material) -> Html:
    """List the commands that DVC ran, as the lock of the first run has them."""
    run = material.chosen.runs[0]
    lock = material.lock(run)
    if not lock:
        return absent(f"{run.folder / DVC_LOCK} does not say which commands were run.")
    rows = [[stage, tag("code", str(entry.get("cmd")))] for stage, entry in lock.items()]
    return details(f"The command of each stage ({DVC_YAML})", table(["stage", "command"], rows, frozenset({0, 1})))


def _file_row(material: Material, path: Path, records: dict[Run, dict[str, dict[str, Any]]]) -> list[str]:
    digest = material.attempt(f"{path}", md5, path) or _UNKNOWN
    for run, by_stage in records.items():
        for stage, record in by_stage.items():
            if (run.artifacts / stage) in path.parents:
                return [str(path), digest, when(record["started"]), _commit(record), str(record.get("host", _UNKNOWN))]
    return [str(path), digest, "–", "–", "–"]


def _commit(record: dict[str, Any]) -> str:
    commit = str(record.get("git_commit") or _UNKNOWN)[:12]
    return f"{commit} with changes" if record.get("git_dirty") else commit


def _joined(texts: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(texts)) or _UNKNOWN


def command_line(arguments: Iterable[str]) -> str:
    """Return the words of a command as one would type them."""
    return shlex.join(["ups", "report", *arguments])
