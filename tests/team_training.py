"""A small training that several processes share: `python team_training.py FOLDER PROCESSES MICRO_BATCHES [LOSE]`.

The leader writes `FOLDER/history.csv` and `FOLDER/weights.pt`. LOSE is the rank of a process that ends itself in the
third update.
"""

import os
import sys
from pathlib import Path

import torch
from torch import nn

from ups.parameters.section import Optimization
from ups.training.checkpoint import Checkpoint
from ups.training.history import History
from ups.training.loop import train
from ups.training.losses import Term
from ups.training.machine import Machine
from ups.training.team import assembled

SAMPLES = 40


def main(folder: Path, processes: int, micro_batches: int, lose: int | None) -> None:
    torch.set_num_threads(1)
    rank = int(os.environ.get("RANK", "0"))
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(SAMPLES, 6, generator=generator), torch.randn(SAMPLES, 2, generator=generator)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 2))

    def loss(model, indices, progress, generator):
        if rank == lose and progress.update == 2:
            os._exit(3)
        terms = {"fit": Term((model(x[indices]) - y[indices]).square().mean())}
        if progress.update % 2:
            terms["size"] = Term(model(x[indices]).square().mean(), 0.1)
        return terms

    def validate(model):
        error = float((model(x) - y).square().mean())
        return {"train_loss": error, "val_loss": error}

    settings = Optimization(
        epochs=3,
        updates_per_epoch=4,
        pairs_per_update=10,  # does not go round among 4 processes
        micro_batches=micro_batches,
        learning_rate=0.01,
        optimizer="muon",
        gradient_clip=0.5,
        ema_decay=0.9,
    )
    with assembled(processes, torch.device("cpu"), [sys.executable, *sys.argv]) as team:
        place = folder if team.leads else folder / f"member-{team.rank}"
        place.mkdir(exist_ok=True)
        trained = train(
            model,
            loss,
            validate,
            SAMPLES,
            settings,
            seed=5,
            machine=Machine(torch.device("cpu")),
            history=History(place / "history.csv"),
            checkpoint=Checkpoint("small", "x", folder / "checkpoints"),
            label="small",
            team=team,
        )
    if team.leads:
        torch.save(trained.model.state_dict(), folder / "weights.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:4]), int(sys.argv[4]) if len(sys.argv) > 4 else None)
