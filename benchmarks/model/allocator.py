"""What keeping freed memory saves: the operator's training step with and without `keep_freed_memory`.

python benchmarks/model/allocator.py          # prints both times and their ratio; each in a process of its own
"""

import subprocess
import sys
import time

CODE = """
import sys, time, torch
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    from ups.training.memory import keep_freed_memory
    keep_freed_memory()
from ups.models.operator import LatentOperator
from ups.parameters.files import BASE, read_yaml, validate_section
from ups.parameters.train_operator import TrainOperator
model = validate_section(TrainOperator, read_yaml(BASE)["train_operator"]).model.model_dump()
operator = LatentOperator(tokens=32, dim=16, num_coefficients=1, dt=0.05, backbone=model)
z, c = torch.randn(120, 32, 16), torch.full((120, 1), 0.01)
step = lambda: operator(z, c).square().mean().backward()
step()
started = time.process_time()
for _ in range(8):
    step()
print((time.process_time() - started) / 8)
"""


def seconds(how: str) -> float:
    """Return the processor seconds of one forward and backward pass on 120 samples, one thread."""
    result = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True)
    return float(result.stdout)


if __name__ == "__main__":
    rounds = [(seconds("returned"), seconds("kept")) for _ in range(3)]
    returned, kept = (min(values) for values in zip(*rounds, strict=True))
    day = time.strftime("%Y-%m-%d")
    print(f"{day} returned to the kernel {returned:.3f} s, kept {kept:.3f} s, ratio {returned / kept:.2f}")
