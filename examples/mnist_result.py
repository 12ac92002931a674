"""What the best network of a search is worth: its accuracy on digits that the search never saw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure
from mnist_data import MEAN
from mnist_data import STANDARD_DEVIATION
from optuna.artifacts import download_artifact
from optuna.artifacts import get_all_artifact_meta
from optuna.artifacts import upload_artifact
from optuna.artifacts.exceptions import ArtifactNotFound
from torchmetrics.functional import confusion_matrix


if TYPE_CHECKING:
    import optuna
    from optuna.artifacts import FileSystemArtifactStore
    from torch import Tensor
    from torch import nn
    from torch.utils.data import TensorDataset

NETWORK = Path("mnist-best.pt")
PICTURE = Path("mnist-errors.png")
BATCH_SIZE = 500  # digits at once
N_SHOWN = 20  # errors in the picture, at most
N_CLASSES = 10


def report(
    study: optuna.Study, store: FileSystemArtifactStore, network: nn.Module, test: TensorDataset
) -> str:
    """Test the network of the best trial, draw its errors, and return what came of it in words.

    Args:
        study: The study; its best trial has uploaded the state of its network.
        store: Where to; the picture is put there, too, and optuna-dashboard shows it.
        network: One of the best trial's hyperparameters, on the device of the digits.
        test: The digits that no trial saw.
    """
    files = get_all_artifact_meta(study.best_trial, storage=study._storage)
    NETWORK.unlink(missing_ok=True)  # that of the best before
    try:
        identity = files[-1].artifact_id
        download_artifact(artifact_store=store, file_path=str(NETWORK), artifact_id=identity)
    except (IndexError, ArtifactNotFound):
        return "The network of the best trial is not here: another run, elsewhere, trained it."
    network.load_state_dict(torch.load(NETWORK, weights_only=True))
    images, labels = test.tensors
    guesses = read(network, images)
    errors = confusion_matrix(guesses, labels, "multiclass", num_classes=N_CLASSES).cpu()
    errors.fill_diagonal_(0)
    draw(errors, images.cpu(), labels.cpu(), guesses.cpu()).savefig(PICTURE, dpi=120)
    upload_artifact(artifact_store=store, file_path=str(PICTURE), study_or_trial=study)
    n, n_wrong = len(labels), int(errors.sum())
    digit, other = divmod(int(errors.argmax()), N_CLASSES)
    often = f"; most often, {digit} is taken for {other}" if n_wrong else ""
    return (
        f"Its network ({NETWORK}) reads {n - n_wrong:,} of {n:,} digits right that no trial saw, "
        f"{100 * (n - n_wrong) / n:.1f} %{often} ({PICTURE})."
    )


@torch.no_grad()
def read(network: nn.Module, images: Tensor) -> Tensor:
    """Return what a network takes images for: digits of shape (n,)."""
    network.eval()
    return torch.cat([network(batch).argmax(1) for batch in torch.split(images, BATCH_SIZE)])


def draw(errors: Tensor, images: Tensor, labels: Tensor, guesses: Tensor) -> Figure:
    """Return a picture of how often each digit is taken for which, and of some that are.

    Args:
        errors: Counts of shape (digit, what it is taken for); 0 on the diagonal.
        images: Normalised images of shape (n, 1, 28, 28).
        labels: What they show; of shape (n,).
        guesses: What they are taken for; of shape (n,).
    """
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False)[0]
    axes = left.subplots()
    axes.imshow(errors, cmap="Blues")
    axes.set(xlabel="taken for", ylabel="digit", xticks=range(10), yticks=range(10))
    axes.set_title(f"{int(errors.sum())} errors on {len(labels):,} digits that no trial saw")
    for digit, other in errors.nonzero().tolist():
        count = int(errors[digit, other])
        dark = 2 * count > int(errors.max())
        axes.text(
            other, digit, count, ha="center", va="center", color="white" if dark else "black"
        )
    wrong = (labels != guesses).nonzero().flatten().tolist()[:N_SHOWN]
    for place, index in zip(right.subplots(4, 5).flat, wrong, strict=False):
        place.imshow(images[index, 0] * STANDARD_DEVIATION + MEAN, cmap="gray_r")
        place.set_title(f"{labels[index]} taken for {guesses[index]}", fontsize=9)
    for place in right.axes:
        place.set_axis_off()
    return figure
