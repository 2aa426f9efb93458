"""`history.csv`: one row per epoch, written while the training runs so that a driver can follow it."""

import csv
from pathlib import Path


class History:
    """Rows of numbers with the same columns.

    Args:
        path: the CSV file; rewritten as a whole after each row, so that a reader never sees half a line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def append(self, row: dict[str, float]) -> None:
        self.rows.append(row)
        self.write()

    def write(self) -> None:
        if not self.rows:
            return
        columns = list(dict.fromkeys(name for row in self.rows for name in row))  # a term may begin in a later epoch
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=columns)
            writer.writeheader()
            writer.writerows(self.rows)
        temporary.replace(self.path)

    def column(self, name: str) -> list[float]:
        return [row[name] for row in self.rows]
