"""Train a model, score its held-out logits with a server, compare with other libraries, gate a worse model.

It ends with an error if the server and a float64 computation disagree.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.metrics import log_loss  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional

from examples.local_server import LocalServer
from lossd.batch import Scorer, merge
from lossd_client import LossClient, LossdError, LossResult, Report

GAMMA, ALPHA = 2.0, 0.25
TOLERANCE = 1e-9
REPORT = Path(".demo/report.json")
"""What the page opens with."""

ElementLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class HeldOut:
    """Logits of a trained model for images it has not seen, and their targets: both [images, 10]."""

    logits: Tensor
    targets: Tensor
    accuracy: float


@cache
def train(part: float = 1.0) -> HeldOut:
    """Train a small network on ten handwritten digits, with one yes-or-no question for each digit.

    Args:
        part: How much of the images for training it gets.
    """
    torch.manual_seed(0)
    torch.set_num_threads(2)
    digits = load_digits()
    parts = train_test_split(
        digits.data / 16, digits.target, test_size=0.25, random_state=0, stratify=digits.target
    )
    x, x_held, y, y_held = (torch.from_numpy(np.asarray(part)) for part in parts)
    x, x_held = x.float(), x_held.float()
    targets, targets_held = (functional.one_hot(part, 10).float() for part in (y, y_held))
    x, targets = x[: int(part * len(x))], targets[: int(part * len(x))]

    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(model(x), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    with torch.no_grad():
        logits = model(x_held)
    return HeldOut(logits, targets_held, float((logits.argmax(1) == y_held).double().mean()))


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute binary cross entropy with torch, for each element."""
    return torch.nn.BCEWithLogitsLoss(reduction="none")(logits, targets)  # type: ignore[no-any-return]


def yolov5_focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute focal loss as YOLOv5 writes it, for each element."""
    p = torch.sigmoid(logits)
    p_t = targets * p + (1 - targets) * (1 - p)
    balance = targets * ALPHA + (1 - targets) * (1 - ALPHA)
    return bce(logits, targets) * balance * (1.0 - p_t) ** GAMMA


def sklearn_log_loss(held_out: HeldOut) -> float:
    """Average scikit-learn's log_loss over the ten questions."""
    p = torch.sigmoid(held_out.logits.double()).numpy()
    y = held_out.targets.numpy()
    return float(np.mean([log_loss(y[:, c], p[:, c], labels=[0, 1]) for c in range(y.shape[1])]))


def compare(console: Console, client: LossClient, held_out: HeldOut) -> bool:
    """Print the server's losses beside the others', and return whether they agree with float64."""
    logits, targets = held_out.logits, held_out.targets
    served = {
        "BCE": (client.bce(logits, targets), client.bce(logits, targets, axis=0)),
        "focal": (
            client.focal(logits, targets, gamma=GAMMA, alpha=ALPHA),
            client.focal(logits, targets, gamma=GAMMA, alpha=ALPHA, axis=0),
        ),
    }
    elements: dict[str, ElementLoss] = {"BCE": bce, "focal": yolov5_focal}
    names = {"BCE": "BCEWithLogitsLoss", "focal": "YOLOv5's FocalLoss"}

    table = Table(title=f"Mean loss of {logits.numel():,} held-out logits", title_justify="left")
    for title in ("loss", "computed by", "value", "off float64 by"):
        table.add_column(title, justify="right" if title in ("value", "off float64 by") else "left")
    agrees = True
    for name, (whole, by_class) in served.items():
        each = elements[name](logits.double(), targets.double())
        exact = float(each.mean())
        label = name if name == "BCE" else f"{name}, gamma {GAMMA:g}"
        rows = [
            (f"[bold]lossd, {whole.kernel} on {whole.device}[/bold]", float(whole)),
            (f"{names[name]}, float64", exact),
            (f"{names[name]}, float32", float(elements[name](logits, targets).mean())),
        ]
        if name == "BCE":
            rows.append(("scikit-learn's log_loss", sklearn_log_loss(held_out)))
        for who, value in rows:
            table.add_row(label, who, f"{value:.15f}", f"{abs(value - exact) / exact:.1e}")
            label = ""
        table.add_section()
        agrees = agrees and abs(float(whole) - exact) <= TOLERANCE * exact
        agrees = agrees and np.allclose(by_class.loss, each.mean(0).numpy(), rtol=TOLERANCE, atol=0)
    console.print(table)

    losses = np.asarray(served["BCE"][1].loss)
    console.print("BCE by digit (axis=0):\n ", " ".join(f"{c}: {loss:.3f}" for c, loss in enumerate(losses)))
    return agrees


def show_tail(console: Console, client: LossClient) -> None:
    """Print an element whose loss float32 loses completely."""
    logits, targets = torch.tensor([-15.0]), torch.tensor([0.0])
    console.print(
        "Why float32 differs, in one negative scored -15: its BCE is log(1 + exp(-15)) = 3.05902e-07;\n"
        f"torch's float32 gives {float(bce(logits, targets)):g}, "
        f"lossd {float(client.bce(logits, targets)):.6g}."
    )


def show_same_bits(console: Console, client: LossClient, held_out: HeldOut) -> bool:
    """Score the same rows in one request, in many, and without a server; return whether all 64 bits agree."""
    logits, targets = held_out.logits, held_out.targets
    whole = client.focal(logits, targets)
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(1))
    batches = [
        client.focal(logits[rows], targets[rows])
        for rows in (order[i : i + 7] for i in range(0, len(order), 7))
    ]
    merged = LossResult.merge(batches)
    naive = float(np.mean([float(batch) for batch in batches]))
    console.print(
        f"\nThe same rows, shuffled, in {len(batches)} requests of 7, and merged (LossResult.merge):\n"
        f"  one request        {float(whole).hex()}\n  {len(batches)} requests merged {float(merged).hex()}\n"
        f"  the mean of their means would be off by {abs(naive - float(whole)) / float(whole):.0e}."
    )
    scorer, tables = Scorer("focal"), [_table(held_out, rows) for rows in torch.split(order, 100)]
    with ThreadPoolExecutor() as pool:  # Ray, Spark and Dask do the same on other machines
        partials = list(pool.map(scorer.score, tables))
    alone = merge(partials, rows=len(order)).result
    console.print(
        f"  {len(partials)} tables, no server {float(alone).hex()}, by threads of this process (lossd.batch)."
    )
    bits = {float(each).hex() for each in (whole, merged, alone)}
    return len(bits) == 1 and whole.sum_terms == merged.sum_terms == alone.sum_terms


def _table(held_out: HeldOut, rows: Tensor) -> pa.Table:
    """Return some rows as a table, with a column of lists for each tensor."""
    columns = {"logits": held_out.logits[rows], "targets": held_out.targets[rows]}
    return pa.table({name: list(values.numpy()) for name, values in columns.items()})


def show_report(console: Console, client: LossClient, held_out: HeldOut) -> bool:
    """Print what one upload tells, and return whether shuffled shards merge into the same report."""
    logits, targets = held_out.logits, held_out.targets
    ids = np.arange(len(logits))

    def report(rows: NDArray[np.int64]) -> Report:
        return client.report(
            "focal",
            logits[rows],
            targets[rows],
            gamma=GAMMA,
            alpha=ALPHA,
            ids=ids[rows],
            top=5,
            sweep={"gamma": [0, GAMMA]},
        )

    whole = report(ids)
    (low, high), calibration = whole.interval(0.95), whole.calibration
    best = max(calibration.thresholds(), key=lambda each: each.f1)
    answer = whole.at(gamma=0, alpha=0.5)
    asked = float(client.focal(logits, targets, gamma=0, alpha=0.5))
    classes = sorted(whole.classes, key=lambda each: -each.mean)
    hardest = ", ".join(f"{each.index} ({each.mean:.4f})" for each in classes[:3])
    worst = ", ".join(f"{row.id} ({row.loss:.2f})" for row in whole.top_rows)

    shards = np.array_split(np.random.default_rng(1).permutation(ids), 9)
    merged = Report.merge(map(report, shards))
    table = Table(title="One upload, many answers (client.report)", title_justify="left", show_header=False)
    for name, said in (
        ("focal loss", f"{whole.mean:.6f}, with 95 % confidence from {low:.6f} to {high:.6f}"),
        ("worst images", worst),
        ("hardest digits", hardest),
        ("calibration", f"ECE {calibration.ece:.4f}, AUROC {calibration.auroc:.4f}"),
        ("best threshold", f"{best.threshold:.3f}: precision {best.precision:.3f}, recall {best.recall:.3f}"),
        ("at gamma 0, alpha 0.5", f"{answer:.15f}; a request of its own says {asked:.15f}"),
        (f"{len(shards)} shuffled shards", "merge into the same report" if merged == whole else "differ"),
    ):
        table.add_row(name, said)
    console.print()
    console.print(table)
    return merged == whole and abs(answer - asked) <= TOLERANCE * asked


def show_gate(console: Console, url: str, held_out: HeldOut) -> bool:
    """Gate a model that lost half of its images; return whether the means are those of float64."""
    worse = train(0.5)
    files = {"new.npy": worse.logits, "baseline.npy": held_out.logits, "targets.npy": held_out.targets}
    with tempfile.TemporaryDirectory() as folder:
        for name, tensor in files.items():
            np.save(Path(folder, name), tensor.numpy())
        command = [str(Path(sys.executable).with_name("lossd")), "compare", *files]
        options = ["--max-regression", "1%"]
        done = subprocess.run(  # noqa: S603 - our own command
            [*command, *options, "--json", "--url", url],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode not in (0, 4):
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout)["whole"]
    low, high = found["relative_interval"]
    exact = [float(bce(each.logits.double(), each.targets.double()).mean()) for each in (worse, held_out)]
    console.print(
        f"\nA gate: `lossd compare {' '.join(files)} {' '.join(options)}`\n  A model that saw half of the "
        f"images recognizes {worse.accuracy:.1%}. Its loss has changed by {found['relative']:+.1%} "
        f"({low:+.1%} to {high:+.1%}): {found['verdict']}, exit code {done.returncode}."
    )
    agrees = np.allclose([found["new"], found["baseline"]], exact, rtol=TOLERANCE, atol=0)
    return bool(agrees and (done.returncode == 4) == (found["verdict"] == "regressed"))


def score_files(console: Console, url: str, held_out: HeldOut) -> bool:
    """Score two files with the command, some class ids missing; return whether the loss is right."""
    logits, ids = held_out.logits.numpy(), held_out.targets.argmax(1).double().numpy()
    ids[::10] = np.nan
    half = len(ids) // 2
    options = ["--targets-format", "index", "--drop-unlabelled"]
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in (("a.npz", slice(0, half)), ("b.npz", slice(half, None))):
            np.savez(Path(folder, name), logits=logits[rows], targets=ids[rows])
        command = [str(Path(sys.executable).with_name("lossd")), "score", "a.npz", "b.npz", *options]
        done = subprocess.run(  # noqa: S603 - our own command
            [*command, "--json", "--url", url], cwd=folder, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout)
    kept = ~np.isnan(ids)
    exact = float(bce(held_out.logits.double(), held_out.targets.double())[kept].mean())
    console.print(
        f"\nFrom files: `lossd score a.npz b.npz {' '.join(options)}`\n  {found['loss']:.15f} over "
        f"{found['count']:,} logits, off float64 by {abs(found['loss'] - exact) / exact:.1e}; "
        f"{int((~kept).sum())} images have no label and do not count."
    )
    return bool(abs(found["loss"] - exact) <= TOLERANCE * exact and found["count"] == 10 * kept.sum())


def main() -> int:
    """Train, score and compare; the exit code says whether the losses agree."""
    signal.signal(signal.SIGTERM, _leave)  # stop the server then too
    console = Console(width=100, highlight=False)
    try:
        settings = {"ui_report": REPORT.absolute()}
        with LocalServer(Path(sys.executable).with_name("lossd"), settings=settings) as server:
            console.print(f"Server ready at {server.url}. Training on scikit-learn's digits...")
            held_out = train()
            count = len(held_out.logits)
            console.print(f"{held_out.accuracy:.1%} of {count} held-out images are recognized.\n")
            with LossClient(server.url) as client:
                agrees = compare(console, client, held_out)
                show_tail(console, client)
                agrees = show_same_bits(console, client, held_out) and agrees
                agrees = show_report(console, client, held_out) and agrees
                agrees = show_gate(console, server.url, held_out) and agrees
                agrees = score_files(console, server.url, held_out) and agrees
                save_for_page(client, held_out)
            if agrees:
                show_page(console, server.url)
    except (LossdError, RuntimeError, TimeoutError) as error:
        console.print("[red]The demo failed:[/red]")
        console.print(str(error), markup=False, soft_wrap=True)
        return 1
    if not agrees:
        console.print(f"[red]The server's losses are off: see above (float64's, to {TOLERANCE:g}).[/red]")
        return 1
    console.print("\nRead on: README.md, and docs/ for the API, the numerics and operating.")
    return 0


def save_for_page(client: LossClient, held_out: HeldOut) -> None:
    """Save the report that the page opens with: of two models, by digit, in groups of a hundred images."""
    logits, targets = held_out.logits, held_out.targets
    ids = np.arange(len(logits))
    report = client.report(
        "focal",
        logits,
        targets,
        gamma=GAMMA,
        alpha=ALPHA,
        ids=ids,
        groups=ids // 100,
        baseline=train(0.5).logits,
        top=20,
        sweep={"gamma": [0, 0.5, 1, GAMMA, 3, 5]},
    )
    named = report.with_class_names(f"digit {digit}" for digit in range(logits.shape[1]))
    REPORT.parent.mkdir(exist_ok=True)
    named.save(REPORT)


def show_page(console: Console, url: str) -> None:
    """Say how to see the report in a browser; at a terminal, keep the server up until Ctrl-C."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        console.print(
            f'\nTo see this run in a browser: `make serve ARGS="--ui-report {REPORT}"`, then '
            "http://127.0.0.1:8000/ui",
            soft_wrap=True,
        )
        return
    console.print(f"\nOpen {url}/ui to see this run in a browser; Ctrl-C ends.", soft_wrap=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        console.print()


def _leave(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
