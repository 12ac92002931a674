"""What the runs of the quality benchmark say: tables, pictures, and where we fall short."""

from __future__ import annotations

import csv
from functools import cached_property
from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from scipy.stats import friedmanchisquare
from scipy.stats import rankdata

import benchmarks.quality.runs as quality_runs
from benchmarks.quality.tasks import task_by_name
from benchmarks.quality.tasks import tasks


if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from benchmarks.quality.runs import Record

OURS = "PropulateSampler"
BEATEN = ("Propulate", "NSGA-II")
SHARE_BEATEN = 0.9
MARGIN_OF_TPE = 0.02
BELOW = {"sphere": 1e-12, "rosenbrock": 1e-8}
AT_WORKERS = 8
GROUPS = {"BBOB": ("bbob",), "tables": ("table",), "functions and mixed": ("function", "mixed")}
_COLORS = ("#0072b2", "#56b4e9", "#999999", "#d55e00", "#e69f00", "#009e73", "#cc79a7", "#000000")


class Report:
    """Compares samplers over all tasks and numbers of workers.

    Args:
        records: The runs; every sampler with the same seeds.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.samplers = list(dict.fromkeys(record.sampler for record in records))
        self.workers = sorted({record.n_workers for record in records})
        self.seeds = sorted({record.seed for record in records})
        self._runs = {record.key[:4]: record for record in records}
        self._n_trials = {record.task: record.n_trials for record in records}
        names = {record.task for record in records}
        self.tasks = [task.name for task in tasks() if task.name in names]
        self._blocks = [(task, n) for n in self.workers for task in self.tasks]

    def finals(self, task: str, sampler: str, n_workers: int) -> NDArray[np.float64]:
        """Return the final losses, one for each seed that the sampler was run with."""
        keys = [(task, sampler, n_workers, seed) for seed in self.seeds]
        return np.array([self._runs[key].final for key in keys if key in self._runs])

    @cached_property
    def everywhere(self) -> list[str]:
        """The samplers that ran on every task, with every number of workers and seed."""
        return [
            sampler
            for sampler in self.samplers
            if all(
                len(self.finals(task, sampler, n)) == len(self.seeds) for task, n in self._blocks
            )
        ]

    @cached_property
    def ranks(self) -> NDArray[np.float64]:
        """The mean rank of each sampler in each block, shape ``(n_blocks, n_samplers)``."""
        return np.array(
            [
                np.mean(
                    [
                        rankdata(losses)
                        for losses in np.transpose(
                            [self.finals(task, sampler, n) for sampler in self.everywhere]
                        )
                    ],
                    axis=0,
                )
                for task, n in self._blocks
            ]
        )

    @cached_property
    def mean_ranks(self) -> dict[str, float]:
        """The mean rank over all blocks, the best first."""
        means = dict(zip(self.everywhere, self.ranks.mean(axis=0).tolist(), strict=True))
        return dict(sorted(means.items(), key=lambda item: item[1]))

    @cached_property
    def shortfalls(self) -> list[str]:
        """Where PropulateSampler does not reach what it is to reach."""
        found: list[str] = []
        if OURS not in self.everywhere:
            return found
        if len(self.everywhere) > 1 and next(iter(self.mean_ranks)) != OURS:
            found.append(f"{next(iter(self.mean_ranks))} has the first mean rank")
        for other in BEATEN:
            if other in self.everywhere:
                lost = [block for block in self._blocks if not self._beats(other, *block)]
                if len(lost) > (1.0 - SHARE_BEATEN) * len(self._blocks):
                    found.append(f"{other} is not beaten on {_names(lost)}")
        found += self._worse_than_tpe() + self._not_below()
        return found

    def _beats(self, other: str, task: str, n_workers: int) -> bool:
        """Tell whether our median is less, or the same and our mean is less."""
        ours, theirs = (self.finals(task, one, n_workers) for one in (OURS, other))
        means = float(np.mean(ours)), float(np.mean(theirs))
        medians = float(np.median(ours)), float(np.median(theirs))
        return (medians[0], means[0]) < (medians[1], means[1])

    def _worse_than_tpe(self) -> list[str]:
        found = []
        for task, n in self._blocks:
            if "TPE" in self.everywhere and task_by_name(task).kind == "table":
                ours, tpe = (float(self.finals(task, one, n).mean()) for one in (OURS, "TPE"))
                if ours > tpe + MARGIN_OF_TPE:
                    found.append(f"{task}, {n} workers: {ours:.3f}, TPE {tpe:.3f}")
        return found

    def _not_below(self) -> list[str]:
        return [
            f"{task}, {AT_WORKERS} workers: {median:.1e}"
            for task, limit in BELOW.items()
            if task in self.tasks and AT_WORKERS in self.workers
            for median in (float(np.median(self.finals(task, OURS, AT_WORKERS))),)
            if not median < limit
        ]

    def text(self) -> str:
        """Return all tables in Markdown."""
        return "\n\n".join(
            [
                self._ranks_text(),
                self._budgets_text(),
                *(self._medians_text(n_workers) for n_workers in self.workers),
            ]
        )

    def _ranks_text(self) -> str:
        columns = [
            self.ranks[[n == w for _, n in self._blocks]].mean(axis=0) for w in self.workers
        ]
        header = "".join(f" {n} worker{'s' if n > 1 else ''} |" for n in self.workers)
        lines = [f"| mean rank | all |{header}", "|---|---|" + "---|" * len(self.workers)]
        for sampler, mean in self.mean_ranks.items():
            place = self.everywhere.index(sampler)
            cells = "".join(f" {column[place]:.2f} |" for column in columns)
            lines.append(f"| {sampler} | {mean:.2f} |{cells}")
        lines.append(
            f"\nOver {len(self.tasks)} tasks and {len(self.seeds)} seeds, "
            f"{len(self.everywhere)} samplers; Friedman test: p = {self._p_value():.1e}."
        )
        left_out = [sampler for sampler in self.samplers if sampler not in self.everywhere]
        if left_out:
            lines.append(f"Not run everywhere, so not ranked: {'; '.join(left_out)}.")
        for other in (one for one in BEATEN if one in self.everywhere):
            lost = [block for block in self._blocks if not self._beats(other, *block)]
            lines.append(
                f"Better than {other} by the median in {len(self._blocks) - len(lost)} of "
                f"{len(self._blocks)} cases" + (f"; not on {_names(lost)}." if lost else ".")
            )
        lines += [f"Falls short: {shortfall}." for shortfall in self.shortfalls]
        return "\n".join(lines)

    def _budgets_text(self) -> str:
        """Return the mean ranks after each budget, by group of tasks."""
        tables = []
        for title, kinds in GROUPS.items():
            names = [task for task in self.tasks if task_by_name(task).kind in kinds]
            budgets = [
                n for n in quality_runs.BUDGETS if any(self._n_trials[name] >= n for name in names)
            ]
            if not budgets or len(self.everywhere) < 2:
                continue
            header = "".join(f" {n} trials |" for n in budgets)
            lines = [f"| {title}: mean rank at |{header} CPU a trial |"]
            lines.append("|---|" + "---|" * (len(budgets) + 1))
            columns = [
                self._compared([t for t in names if self._n_trials[t] >= n], n) for n in budgets
            ]
            for place, sampler in enumerate(self.everywhere):
                cells = "".join(f" {ranks[place]:.2f}{won[place]} |" for ranks, won in columns)
                lines.append(f"| {sampler} |{cells} {1e3 * self._cpu(names, sampler):.1f} ms |")
            tables.append("\n".join(lines))
        note = "In brackets: in how many cases PropulateSampler was better : worse."
        return "\n\n".join([*tables, note] if tables else [])

    def _compared(self, names: Sequence[str], budget: int) -> tuple[list[float], list[str]]:
        """Return each sampler's mean rank after a budget, and how often ours was better."""
        cases = np.array(
            [
                [self._runs[task, sampler, n, seed].at(budget) for sampler in self.everywhere]
                for task in names
                for n in self.workers
                for seed in self.seeds
            ]
        )
        ranks = rankdata(cases, axis=1).mean(axis=0).tolist()
        if OURS not in self.everywhere:
            return ranks, [""] * len(ranks)
        ours = cases[:, [self.everywhere.index(OURS)]]
        better, worse = (ours < cases).sum(axis=0), (ours > cases).sum(axis=0)
        shown = [f" ({b} : {w})" for b, w in zip(better.tolist(), worse.tolist(), strict=True)]
        shown[self.everywhere.index(OURS)] = ""
        return ranks, shown

    def _cpu(self, names: Sequence[str], sampler: str) -> float:
        runs = [
            self._runs[t, sampler, n, s] for t in names for n in self.workers for s in self.seeds
        ]
        return float(np.mean([run.cpu for run in runs]))

    def _p_value(self) -> float:
        if len(self.everywhere) < 3:
            return 1.0
        return float(friedmanchisquare(*self.ranks.T).pvalue)

    def _medians_text(self, n_workers: int) -> str:
        shown = [s for s in self.samplers if len(self.finals(self.tasks[0], s, n_workers))]
        lines = [
            f"| {n_workers} worker{'s' if n_workers > 1 else ''} | trials |"
            + "".join(f" {one} |" for one in shown),
            "|---|---|" + "---|" * len(shown),
        ]
        for task in self.tasks:
            medians = [float(np.median(self.finals(task, one, n_workers))) for one in shown]
            cells = "".join(
                f" **{median:.2g}** |" if median == min(medians) else f" {median:.2g} |"
                for median in medians
            )
            lines.append(f"| {task} | {self._n_trials[task]} |{cells}")
        return "\n".join(lines)

    def save(self, folder: Path, name: str) -> None:
        """Write the tables and the quartiles into a folder, under a name."""
        folder.mkdir(parents=True, exist_ok=True)
        title = "Search quality" if name == "quality" else f"Search quality: {name}"
        (folder / f"{name}.md").write_text(f"# {title}\n\n{self.text()}\n")
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["task", "sampler", "workers", "seeds", "q1", "median", "q3"])
            for task, n in self._blocks:
                for sampler in self.samplers:
                    if len(finals := self.finals(task, sampler, n)):
                        quartiles = np.quantile(finals, [0.25, 0.5, 0.75])
                        cells = [f"{value:.6g}" for value in quartiles]
                        writer.writerow([task, sampler, n, len(finals), *cells])

    def draw(self, folder: Path) -> None:
        """Draw the mean ranks, and the best loss so far on each task, into a folder."""
        self._draw_ranks(folder / "quality_ranks.png")
        self._draw_curves(folder / "quality_curves.png")

    def _draw_ranks(self, path: Path) -> None:
        import scikit_posthocs

        plt = _pyplot()
        figure, axes = plt.subplots(figsize=(9, 2.6), dpi=120)
        names = [f"{name}" for name in self.everywhere]
        different = scikit_posthocs.posthoc_nemenyi_friedman(self.ranks)
        different.index = different.columns = names
        means = dict(zip(names, self.ranks.mean(axis=0).tolist(), strict=True))
        scikit_posthocs.critical_difference_diagram(
            means, different, ax=axes, label_fmt_left="{label} ({rank:.2f})  ",
            label_fmt_right="  ({rank:.2f}) {label}",
        )  # fmt: skip
        axes.set_title(
            f"Mean rank over {len(self.tasks)} tasks with {', '.join(map(str, self.workers))} "
            "workers; a bar joins what differs by chance (Nemenyi, 5 %)",
            fontsize=9,
        )
        figure.savefig(path, bbox_inches="tight")
        plt.close(figure)

    def _draw_curves(self, path: Path) -> None:
        plt = _pyplot()
        n_workers = AT_WORKERS if AT_WORKERS in self.workers else self.workers[0]
        columns = 5
        rows = -(-len(self.tasks) // columns)
        figure, grid = plt.subplots(rows, columns, figsize=(15, 2.6 * rows), dpi=90)
        for axes, task in zip(grid.flat, self.tasks, strict=False):
            self._draw_task(axes, task, n_workers)
        for axes in grid.flat[len(self.tasks) :]:
            axes.axis("off")
        handles, labels = grid.flat[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower right", fontsize=10, ncols=2)
        figure.suptitle(
            f"Best loss so far against trials, {n_workers} workers: median and quartiles of "
            f"{len(self.seeds)} seeds"
        )
        figure.tight_layout(rect=(0.0, 0.0, 1.0, 0.985))
        figure.savefig(path)
        plt.close(figure)

    def _draw_task(self, axes: Any, task: str, n_workers: int) -> None:
        at = quality_runs.checkpoints(self._n_trials[task])
        for sampler, color in zip(self.samplers, _COLORS * 2, strict=False):
            keys = [(task, sampler, n_workers, seed) for seed in self.seeds]
            curves = [self._runs[key].curve for key in keys if key in self._runs]
            if not curves:
                continue
            low, median, high = np.quantile(np.array(curves), [0.25, 0.5, 0.75], axis=0)
            axes.plot(at, median, color=color, label=sampler, lw=2 if sampler == OURS else 1)
            if sampler == OURS:
                axes.fill_between(at, low, high, color=color, alpha=0.2, lw=0)
        axes.set_xscale("log")
        axes.set_yscale("log" if task not in _LINEAR else "linear")
        axes.set_title(task, fontsize=10)
        axes.tick_params(labelsize=7)


def _names(blocks: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{task} ({n_workers})" for task, n_workers in blocks)


_LINEAR = ("step", "car", "segment")


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot
