"""Binary cross entropy of two .npy files of any size, without torch and in little memory.

Run it with ``python -m examples.evaluate logits.npy targets.npy``. The files are mapped, not read, and sent
parts are dropped from memory. It continues when the server loses a worker or is restarted.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from lossd_client import LossClient, LossdError, LossResult, Retry, progress_bar

# More patient than the client's default: the server may be away for some minutes.
PATIENT = Retry(attempts=40)


def evaluate(client: LossClient, logits_file: str, targets_file: str) -> LossResult:
    """Score the files, with a progress bar on a terminal.

    Raises:
        OSError: A file cannot be read.
        ValueError: It is not a .npy file.
        LossdError: The server refused them, or could not be reached.
    """
    logits, targets = (np.load(file, mmap_mode="r") for file in (logits_file, targets_file))
    with progress_bar("Evaluating") as show:
        return client.with_options(progress=show, retry=PATIENT).bce(logits, targets)


def main() -> None:
    """Print the mean."""
    parser = argparse.ArgumentParser(description="Binary cross entropy of two .npy files.")
    parser.add_argument("logits")
    parser.add_argument("targets")
    parser.add_argument("--url", help="the server's address; by default LOSSD_BASE_URL")
    arguments = parser.parse_args()
    try:
        with LossClient(arguments.url) as client:
            result = evaluate(client, arguments.logits, arguments.targets)
    except (LossdError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(float(result))


if __name__ == "__main__":
    main()
