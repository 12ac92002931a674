"""Search the hyperparameters of a convolutional network that reads handwritten digits.

Run it alone, or on many ranks that share one study::

    mpirun -n 4 python examples/mnist.py --n-trials 100

Each trial trains on the GPU that its rank is mapped to, or on its share of the CPU's cores.

Reference:
    The network and its search space are those of Propulate's HPO tutorial,
    https://propulate.readthedocs.io/en/latest/tut_hpo.html
"""

from __future__ import annotations

import argparse
import logging
import math
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import lightning
import optuna
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from mnist_data import load_digits
from mnist_result import report
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts import upload_artifact
from sqlalchemy.engine import make_url
from torch import nn
from torch.utils.data import BatchSampler
from torch.utils.data import DataLoader
from torch.utils.data import RandomSampler
from torch.utils.data import SequentialSampler
from torch.utils.data import TensorDataset
from torchmetrics import Accuracy

import optuna_propulate
from optuna_propulate.parallel.launch import communicator


if TYPE_CHECKING:
    from mnist_data import Digits
    from torch import Tensor

STORE_FOLDER = Path("mnist-files")
STORE = FileSystemArtifactStore(STORE_FOLDER)
N_CLASSES = 10
N_CHANNELS = 10
N_PIXELS = 28 * 28
ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


class ConvNet(lightning.LightningModule):
    """3x3 convolutions that keep the size of the image, then one linear layer.

    Args:
        conv_layers: How many convolutions, at least 1.
        activation: What follows each of them; a key of ``ACTIVATIONS``.
        lr: The learning rate of stochastic gradient descent.
    """

    def __init__(self, conv_layers: int, activation: str, lr: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_inputs in (1, *[N_CHANNELS] * (conv_layers - 1)):
            layers.append(nn.Conv2d(n_inputs, N_CHANNELS, kernel_size=3, padding=1))
            layers.append(ACTIVATIONS[activation]())
        self.network = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(N_CHANNELS * N_PIXELS, N_CLASSES)
        )
        self.loss = nn.CrossEntropyLoss()
        self.lr = lr
        self.train_accuracy = Accuracy(task="multiclass", num_classes=N_CLASSES)
        self.val_accuracy = Accuracy(task="multiclass", num_classes=N_CLASSES)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> Tensor:
        images, labels = batch
        scores = self.network(images)
        self.train_accuracy(scores, labels)
        self.log("train_accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        loss: Tensor = self.loss(scores, labels)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_index: int) -> None:
        images, labels = batch
        self.val_accuracy(self.network(images), labels)
        self.log("val_accuracy", self.val_accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class ReportToTrial(lightning.Callback):
    """Reports the validation accuracy after each epoch, and ends a trial that is pruned.

    Attributes:
        best_accuracy: The best so far.
        best_state: The network's weights then.
    """

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial
        self.best_accuracy = 0.0
        self.best_state: dict[str, Tensor] = {}

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        accuracy = trainer.callback_metrics["val_accuracy"].item()
        if accuracy >= self.best_accuracy:
            self.best_accuracy = accuracy
            self.best_state = {
                name.removeprefix("network."): tensor.cpu().clone()
                for name, tensor in pl_module.state_dict().items()
            }
        self._trial.report(accuracy, step=trainer.current_epoch)
        is_last = trainer.current_epoch + 1 == trainer.max_epochs  # nothing left to save
        if not is_last and self._trial.should_prune():
            raise optuna.TrialPruned


class Objective:
    """The best validation accuracy over the epochs, to be maximised.

    A trial that is the best so far keeps its network in ``STORE``, as an artifact of Optuna.

    Args:
        digits: The digits, on the device.
        device: Where to train.
        epochs: How often to go through the training digits.
        batch_size: How many digits make a step.
        seed: Of the weights and the order of digits, together with the trial's number; ``None``
            for another one at each run.
    """

    def __init__(
        self,
        digits: Digits,
        device: torch.device,
        epochs: int,
        batch_size: int,
        seed: int | None,
    ) -> None:
        self._digits, self._device = digits, device
        self._epochs, self._batch_size, self._seed = epochs, batch_size, seed

    def __call__(self, trial: optuna.Trial) -> float:
        conv_layers = trial.suggest_int("conv_layers", 2, 10)
        activation = trial.suggest_categorical("activation", ["relu", "sigmoid", "tanh"])
        lr = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
        trial.set_user_attr("device", str(self._device))
        if self._seed is not None:
            torch.manual_seed(self._seed + trial.number)
        progress = ReportToTrial(trial)
        trainer = self._trainer(progress)
        trainer.fit(
            ConvNet(conv_layers, activation, lr),
            _batches(self._digits.train, self._batch_size, shuffle=True),
            _batches(self._digits.val, self._batch_size, shuffle=False),
        )
        if progress.best_accuracy >= _best_value(trial.study):
            _keep(trial, progress.best_state)
        trial.set_user_attr("train_accuracy", trainer.callback_metrics["train_accuracy"].item())
        return progress.best_accuracy

    def _trainer(self, progress: ReportToTrial) -> lightning.Trainer:
        on_gpu = self._device.type == "cuda"
        return lightning.Trainer(
            accelerator="gpu" if on_gpu else "cpu",
            devices=[self._device.index] if on_gpu else 1,
            # Lightning would take all ranks of mpirun or Slurm for one distributed training.
            plugins=[LightningEnvironment()],
            max_epochs=self._epochs,
            callbacks=[progress],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )


def _best_value(study: optuna.Study) -> float:
    try:
        return study.best_value
    except ValueError:  # there is none yet
        return -math.inf


def _keep(trial: optuna.Trial, state: dict[str, Tensor]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"trial-{trial.number}.pt"
        torch.save(state, path)
        upload_artifact(artifact_store=STORE, file_path=str(path), study_or_trial=trial)


def _batches(
    digits: TensorDataset, batch_size: int, *, shuffle: bool
) -> DataLoader[tuple[Tensor, ...]]:
    """Return batches cut from the tensors at once, which is faster than digit by digit."""
    order = RandomSampler(digits) if shuffle else SequentialSampler(digits)
    return DataLoader(
        digits, batch_size=None, sampler=BatchSampler(order, batch_size, drop_last=False)
    )


def main() -> None:
    """Search, then say what was found and what the best network is worth."""
    flags = _parse_flags()
    _quieten_lightning()
    comm = communicator(None)
    device = optuna_propulate.device_for_rank(accelerator=flags.accelerator)
    digits = load_digits(flags.data_dir, flags.train_samples, flags.val_samples, device, comm)
    study = optuna_propulate.create_study(
        flags.storage,
        study_name=flags.study_name,
        direction="maximize",
        sampler=optuna_propulate.PropulateSampler(islands=flags.islands, seed=flags.seed),
        load_if_exists=True,
    )
    objective = Objective(digits, device, flags.epochs, flags.batch_size, flags.seed)
    if study.is_root:
        STORE_FOLDER.mkdir(exist_ok=True)
        n_train, n_val, n_test = (f"{len(part):,}" for part in digits)
        print(f"{n_train} digits to train with, {n_val} to validate, {n_test} to test with.")
        print(f"{flags.n_trials} trials of {flags.epochs} epochs; this rank trains on {device}.")
    study.optimize(objective, n_trials=flags.n_trials, show_progress_bar=True)
    if study.is_root:
        study.summary()
        network = ConvNet(**study.best_params).network.to(device)
        print(report(study, STORE, network, digits.test))
        url = make_url(flags.storage).render_as_string()  # hides a password
        print("To watch it, with the extra 'dashboard':")
        print(f"  optuna-dashboard {url} --artifact-dir {STORE_FOLDER}")


def _parse_flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--n-trials", type=_positive, default=100, help="over all ranks (%(default)s)")
    add("--epochs", type=_positive, default=2, help="per trial (%(default)s)")
    add("--batch-size", type=_positive, default=8, help="digits per step (%(default)s)")
    add("--islands", type=_positive, default=1, help="at most one per rank (%(default)s)")
    add("--storage", default="sqlite:///mnist.db", help="the study's URL (%(default)s)")
    add("--study-name", default="mnist", help="continued if it exists (%(default)s)")
    add("--data-dir", type=Path, default=Path("data"), help="holds MNIST/raw (%(default)s)")
    add("--train-samples", type=_positive, help="digits to train with (all others)")
    add("--val-samples", type=_positive, help="of the training digits, to validate with (a sixth)")
    add("--accelerator", choices=["auto", "cpu", "gpu"], default="auto", help="(%(default)s)")
    add("--seed", type=int, help="of the search and of the training")
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, but got {value}")
    return value


def _quieten_lightning() -> None:
    """Keep what Lightning says at the start and the end of each trial off the terminal."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")  # the digits are in memory
    warnings.filterwarnings("ignore", module="lightning")  # its own use of what torch deprecates


if __name__ == "__main__":
    main()
