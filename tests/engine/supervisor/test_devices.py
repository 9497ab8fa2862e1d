"""A GPU that cannot be used, since torch is not installed, is not passed over in silence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lossd

RESOLVE = """
import sys
from pathlib import Path

sys.path.append(sys.argv[1])
from lossd.engine.supervisor.devices import resolve

print(resolve(["auto"], Path(sys.argv[2])))
"""


@pytest.mark.parametrize(("name", "said"), [("nvidia0", "pip install 'lossd[server]'"), ("nvidiactl", "")])
def test_a_gpu_without_torch_is_said_to_be_unused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).touch()
    # -S and -E: an interpreter without any package, so also without torch.
    packages = Path(lossd.__file__).parents[1]
    command = [sys.executable, "-S", "-E", "-c", RESOLVE, str(packages), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['cpu']"
    assert (said in done.stderr, bool(done.stderr)) == (True, bool(said))
