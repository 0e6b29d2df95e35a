"""What a comparison has to show, read from the folders that `olivine.compare` left: tables, curves, bars.

Everything is read from files, so that a report can be made again without running anything.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from olivine.drawing.figures import Band, bands, bars, curves, stacked
from olivine.drawing.report import Picture, Section
from olivine.engine.statistics import mean_and_spread, mean_of_known, standard_deviation
from olivine.visualize.detections import compared_frames
from olivine.visualize.scores import (
    DIFFERENCES,
    differences_table,
    explanations,
    gains_in_words,
    mode_in_words,
    score_key,
    score_of,
    titled,
    what_of_seeds,
)

Series = dict[str, tuple[list[float], list[float]]]
"""(steps, values) by name."""

_TERMS = {
    "loss_ppkt": "Point-pixel InfoNCE: each point finds its own pixel.",
    "loss_sup": "Weakly-supervised contrast: points find pixels of their class.",
    "loss_vmf": "Consistency with the class densities. It starts after the warm-up, with a constant that lets it jump.",
}
"""What each term of a method's loss says, for captions."""

_DIAGNOSTICS = {
    "alignment": "Squared distance of matching features: 0 where they agree, 2 where they are unrelated.",
    "uniformity": "Log mean of e^(−2 d²) over pairs of features: 0 where all are one, −3.9 where they fill the sphere.",
    "effective_rank": "Dimensions that the features really use: 1 is collapse.",
    "kappa": "Concentration of the class densities, mean over the classes seen.",
    "pairs_unknown": "Share of pairs that no weak label reaches.",
}
"""What is drawn over the steps of all arms together, and what it says."""

_BY_CLASS = {
    "kappa": "Concentration of each class: the higher, the closer together its features are.",
    "resultant": "Mean resultant length of each class, as the method collects it.",
}
"""What is drawn class by class, an arm at a time."""

_FORWARD = ("teacher", "backbone", "loss")


@dataclass(frozen=True)
class _Folder:
    """A comparison's files.

    Attributes:
        path: the folder.
        settings: `compare.yaml`.
        results: `results.json`, by arm.
        protocols: `protocols.json`, by protocol.
    """

    path: Path
    settings: dict[str, Any]
    results: dict[str, Any]
    protocols: dict[str, Any]

    @staticmethod
    def read(path: Path) -> _Folder:
        settings = yaml.safe_load((path / "compare.yaml").read_text(encoding="utf-8"))
        results, protocols = (
            json.loads((path / name).read_text(encoding="utf-8")) for name in ("results.json", "protocols.json")
        )
        return _Folder(path, settings, results, protocols)

    def scores(self, arm: str, protocol: str) -> list[float | None]:
        """The scores of an arm by seed."""
        found: list[float | None] = self.results[arm][score_key(protocol, self.protocols[protocol])]
        return found

    def pretrained(self) -> dict[str, Path]:
        """The folder of each arm's first pretraining that was begun."""
        runs = {arm: list(content.get("pretraining") or ()) for arm, content in self.results.items()}
        home = self.path.parent / (self.settings.get("pretrained_by") or self.path.name)
        return {arm: home / names[0] for arm, names in runs.items() if names and (home / names[0]).is_dir()}

    def downstream(self, protocol: str) -> dict[str, list[Path]]:
        """The finished runs of a protocol by arm, in the order of the seeds; arms without one are left out."""
        found = {
            arm: [self.path / f"{arm}-{protocol}-seed{seed}" for seed in self.settings["seeds"]] for arm in self.results
        }
        done = {arm: [run for run in runs if (run / "results.json").exists()] for arm, runs in found.items()}
        return {arm: runs for arm, runs in done.items() if runs}


def comparison_sections(path: Path) -> list[Section]:
    """What a comparison has to show: what was gained, on what; tables, plot, pretraining, time, classes, training.

    Args:
        path: the comparison's folder, with `compare.yaml`, `results.json` and `protocols.json`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    folder = _Folder.read(path)
    arms = list(folder.results)
    sections = [_headline(folder), _result(folder), *_differences(folder), *_failures(folder)]
    pretrained = folder.pretrained()
    if pretrained:
        sections += [_losses_section(pretrained), *_diagnostics_section(pretrained, arms), *_time_section(pretrained)]
    finished = {name: runs for name in folder.protocols if (runs := folder.downstream(name))}
    sections += [section for protocol in finished for section in _classes(folder, protocol)]
    sections += _frames(finished)
    training = [_training_curves(protocol, runs, arms) for protocol, runs in finished.items()]
    return [*sections, *([Section("Downstream training", pictures=training)] if training else [])]


def label_plot(path: Path) -> bytes | None:
    """Score against the share of labels, a panel per group of protocols that differ in nothing else.

    Args:
        path: the comparison's folder.

    Returns:
        A PNG; None where no two protocols make a curve.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    folder = _Folder.read(path)
    panels, ticks, titles = {}, {}, set()
    for group in _groups(folder.protocols).values():
        first = folder.protocols[group[0]]
        every = {arm: _band(folder, arm, group) for arm in folder.results}
        drawn = {arm: band for arm, band in every.items() if not all(map(math.isnan, band.mean))}
        titles.add(score_of(first).title)
        panels[f"{mode_in_words(first)} ({Path(first['recipe']).stem})"] = drawn
        for protocol in (folder.protocols[name] for name in group):
            scans = protocol["labelled_scans"]
            ticks[scans] = f"{scans}\n{round(100 * protocol['fraction'], 1):g} %"
    return bands(panels, ticks, "labelled scans", " or ".join(sorted(titles)), list(folder.results)) if panels else None


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`; none where it has no such file."""
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _groups(protocols: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, ...], list[str]]:
    """Protocols of one recipe, mode and scored split, by number of labelled scans, where there are at least two."""
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, protocol in protocols.items():
        if "train" in protocol:
            scored, split = protocol["scored"], protocol["train"]["split"]
            groups[protocol["recipe"], protocol["mode"], str(split), str(scored["split"])].append(name)
    ordered = {key: sorted(names, key=lambda n: protocols[n]["labelled_scans"]) for key, names in groups.items()}
    return {key: names for key, names in ordered.items() if len({protocols[n]["labelled_scans"] for n in names}) > 1}


def _band(folder: _Folder, arm: str, group: Sequence[str]) -> Band:
    scores = [folder.scores(arm, name) for name in group]
    scans = [float(folder.protocols[name]["labelled_scans"]) for name in group]
    return Band(scans, *([_nan(f(values)) for values in scores] for f in (mean_of_known, standard_deviation)))


def _nan(value: float | None) -> float:
    return math.nan if value is None else value


def _scores(folder: _Folder) -> dict[str, dict[str, list[float | None]]]:
    """By arm, protocol and seed."""
    return {arm: {protocol: folder.scores(arm, protocol) for protocol in folder.protocols} for arm in folder.results}


def _baseline(folder: _Folder) -> str:
    return str(folder.settings.get("baseline") or next(iter(folder.results)))


def _seeds_in_words(folder: _Folder) -> str:
    once = not folder.settings.get("pretrain_seeds") and bool(folder.pretrained())
    return what_of_seeds(len(folder.settings["seeds"]), pretrained_once=once)


def _headline(folder: _Folder) -> Section:
    """What was gained over the baseline, and what it was scored on."""
    gains = gains_in_words(_scores(folder), _baseline(folder), folder.protocols)
    return Section("What was gained", [*gains, *explanations(folder.protocols)], note=True)


def _differences(folder: _Folder) -> list[Section]:
    rows = differences_table(_scores(folder), _baseline(folder))
    return (
        [Section(f"Differences to {_baseline(folder)}", [f"Points of the score; {DIFFERENCES}."], rows)] if rows else []
    )


def _result(folder: _Folder) -> Section:
    rows = [titled(folder.protocols, list(folder.protocols))]
    for arm in folder.results:
        cells = [folder.scores(arm, protocol) for protocol in folder.protocols]
        rows.append([arm, *(f"{mean_and_spread(cell)}  ({_each(cell)})" for cell in cells)])
    plot = label_plot(folder.path)
    caption = "Score against labelled scans: mean over the seeds, and the standard deviation as a band."
    return Section(
        "Result",
        [f"{_seeds_in_words(folder)}; in brackets each seed's score.".capitalize()],
        rows,
        [] if plot is None else [Picture(plot, caption)],
        wide=True,
    )


def _each(values: Sequence[float | None]) -> str:
    return ", ".join("–" if value is None else f"{value:.1f}" for value in values)


def _failures(folder: _Folder) -> list[Section]:
    lines = [
        f"{run}: {message}" for content in folder.results.values() for run, message in content.get("failed", {}).items()
    ]
    return [Section("What failed", lines, note=True)] if lines else []


def logged(run: Path, *, prefix: str = "") -> Series:
    """Curves of what a run logged besides its scores.

    Args:
        run: the run's folder.
        prefix: only names that begin with it.
    """
    series: Series = {}
    for line in read_metrics(run):
        for name, value in line.get("losses", {}).items():
            if name.startswith(prefix):
                steps, values = series.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(_nan(value))
    return series


def _losses_section(pretrained: Mapping[str, Path]) -> Section:
    """A picture per arm and term: their scales differ too much for one."""
    pictures = []
    for arm, run in pretrained.items():
        series = logged(run, prefix="loss")
        terms = {name: curve for name, curve in series.items() if name != "loss"} or series
        pictures += [
            Picture(curves({name: curve}, f"{arm}: {name}", name), _TERMS.get(name, name))
            for name, curve in terms.items()
        ]
    return Section("Pretraining", ["No 3-D label takes part in these losses."], pictures=pictures)


def _diagnostics_section(pretrained: Mapping[str, Path], arms: Sequence[str]) -> list[Section]:
    """All arms in one picture per number, then each arm's classes."""
    every = {arm: logged(run) for arm, run in pretrained.items()}
    pictures = []
    for name, caption in _DIAGNOSTICS.items():
        series = {arm: values[name] for arm, values in every.items() if name in values}
        if series:
            pictures.append(Picture(curves(series, name.replace("_", " "), name, arms), caption))
    for arm, values in every.items():
        names = _weak_classes(pretrained[arm])
        for kind, caption in _BY_CLASS.items():
            series = {
                names.get(name.removeprefix(f"{kind}/"), name): curve
                for name, curve in values.items()
                if name.startswith(f"{kind}/")
            }
            if series:
                pictures.append(Picture(curves(series, f"{arm}: {kind} by class", kind), caption))
    text = ["How the pretrained embedding develops: whether features agree, spread out, and use their dimensions."]
    return [Section("Diagnostics", text, pictures=pictures)] if pictures else []


def _weak_classes(run: Path) -> dict[str, str]:
    """Names of the weak classes by index; empty where the pretraining has not ended."""
    path = run / "weights.json"
    about = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    labels = about.get("train", {}).get("weak_labels") or {}
    return {str(index): name for index, name in enumerate(labels.get("classes", ()))}


def _time_section(pretrained: Mapping[str, Path]) -> list[Section]:
    """Mean seconds per step, split into what waits for what."""
    spent = {arm: _seconds(run) for arm, run in pretrained.items()}
    spent = {arm: seconds for arm, seconds in spent.items() if seconds}
    if not spent:
        return []
    stages = list(dict.fromkeys(stage for seconds in spent.values() for stage in seconds))
    parts = {stage: [seconds.get(stage, 0.0) for seconds in spent.values()] for stage in stages}
    picture = stacked(list(spent), parts, "Time of a pretraining step", "seconds, mean")
    rows = [["seconds per step", *stages, "sum"]]
    rows += [
        [arm, *(f"{seconds.get(stage, 0.0):.3f}" for stage in stages), f"{sum(seconds.values()):.3f}"]
        for arm, seconds in spent.items()
    ]
    text = ["Waiting for data, the stages of the forward pass, gradients, and the update, on the machine that ran it."]
    return [Section("Time", text, rows, [Picture(picture, "Runs that ran at a time slow each other down.")], wide=True)]


def _seconds(run: Path) -> dict[str, float]:
    """Mean over the logged steps by stage; what the stages of the forward pass leave of it is `other`."""
    lines = [line["seconds"] for line in read_metrics(run) if "seconds" in line]
    if not lines:
        return {}
    stages = dict.fromkeys(stage for line in lines for stage in line)
    mean = {stage: sum(line.get(stage, 0.0) for line in lines) / len(lines) for stage in stages}
    around = ("load", "epoch", "forward", "backward", "optimizer")
    inside = [stage for stage in (*_FORWARD, *(s for s in mean if s not in _FORWARD)) if stage not in around]
    split = {stage: mean[stage] for stage in ("load", "epoch", *inside) if stage in mean}
    split["other forward"] = max(0.0, mean.get("forward", 0.0) - sum(mean[stage] for stage in inside if stage in mean))
    return {**split, "backward": mean.get("backward", 0.0), "update": mean.get("optimizer", 0.0)}


def _classes(folder: _Folder, protocol: str) -> list[Section]:
    """Score of each class, the mean over each arm's runs, as numbers and bars."""
    found = {arm: _by_class(content["summary"][protocol]) for arm, content in folder.results.items()}
    found = {arm: by for arm, by in found.items() if by["values"]}
    if not found:
        return []
    first = next(iter(found.values()))
    names, title = list(first["values"]), f"{first['metric']}, {first['unit']}"
    rows = [[title, *found]]
    rows += [
        [name, *(f"{_nan(by['values'][name]):.1f}".replace("nan", "–") for by in found.values())] for name in names
    ]
    values = {arm: [_nan(by["values"][name]) for name in names] for arm, by in found.items()}
    picture = bars([name.replace("_", " ") for name in names], values, protocol, title, list(folder.results))
    text = [
        f"{first['metric']} per class, mean over the seeds; – for a class without labels, which is not in the mean."
    ]
    title = f"Class by class: {protocol}"
    return [
        Section(title, text, rows, [Picture(picture, f"Protocol: {protocol}.")], wide=True),
        *_further(folder, protocol),
    ]


def _further(folder: _Folder, protocol: str) -> list[Section]:
    """The other scores of each class that scores of this kind have: tables of the mean over each arm's runs."""
    found = {arm: content["summary"][protocol].get("further") for arm, content in folder.results.items()}
    known = {arm: tables for arm, tables in found.items() if tables}
    sections = []
    for place, first in enumerate(next(iter(known.values()), ())):
        rows = [[f"{first['metric']}, {first['unit']}", *known]]
        for name in first["values"]:
            cells = (tables[place]["values"][name] for tables in known.values())
            rows.append([name, *("–" if value is None else f"{value:.1f}" for value in cells)])
        sections.append(Section(f"{first['metric']}: {protocol}", table=rows))
    return sections


def _frames(finished: Mapping[str, Mapping[str, Sequence[Path]]]) -> list[Section]:
    """What detectors found, by each arm's first run: of the first protocol, since others would look alike."""
    for protocol, runs in finished.items():
        section = compared_frames(f"Frames: {protocol}, first seed", {arm: paths[0] for arm, paths in runs.items()})
        if section is not None:
            return [section]
    return []


def _by_class(summary: Mapping[str, Any]) -> dict[str, Any]:
    """`metric`, `unit` and `values` by class; earlier versions kept the IoU alone."""
    found: dict[str, Any] = summary.get("by_class") or {
        "metric": "IoU",
        "unit": "%",
        "values": summary.get("iou", {}),
    }
    return found


def _training_curves(protocol: str, finished: Mapping[str, Sequence[Path]], arms: Sequence[str]) -> Picture:
    """Curves of each arm's first run."""
    series = {arm: logged(runs[0], prefix="loss").get("loss", ([], [])) for arm, runs in finished.items()}
    return Picture(curves(series, f"{protocol}: training loss", "loss", arms), "First seed.")
