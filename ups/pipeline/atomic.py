"""Write a file as a whole or not at all."""

import os
import threading
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Replace a file by one with this text; whoever reads meanwhile finds the old or the new one, never a part.

    Raises:
        OSError: if it cannot be written; the old file is as it was, and nothing lies beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
