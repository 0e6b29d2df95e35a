"""What a comparison found, from the `results.json` of its runs: scores, tables, and what they are worth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olivine.compare.config import CompareConfig
from olivine.compare.jobs import Failure
from olivine.compare.kinds import scored_kind
from olivine.compare.plan import Run
from olivine.engine.kinds import Score, ScoredKind
from olivine.engine.statistics import mean_and_spread, mean_of_known, paired_difference, standard_deviation
from olivine.errors import printable
from olivine.files import write_json, write_text
from olivine.visualize.scores import (
    DIFFERENCES,
    differences_table,
    explanations,
    score_key,
    titled,
    what_of_seeds,
)


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        path: its folder.
        scores: by arm, protocol and seed, in the order of the recipe; None where a run failed.
        protocols: what each protocol's first result says of its data, split, mode and versions; with `labelled_scans`,
            `fraction`, `recipe`, and `metric` and `unit` of its scores.
        seeds: the seeds, in order.
        arms: by arm, what else is known of it (see `as_json`).
        failures: the runs that did not run to their end, or that cannot be compared.
        baseline: the arm that the others are compared with; None compares with none.
        pretrained_once: whether the seeds of an arm start from one pretraining, so that the spread does not hold its.
    """

    path: Path
    scores: dict[str, dict[str, list[float | None]]]
    protocols: dict[str, Any] = field(repr=False)
    seeds: tuple[int, ...] = ()
    arms: dict[str, Any] = field(default_factory=dict, repr=False)
    failures: tuple[Failure, ...] = ()
    baseline: str | None = None
    pretrained_once: bool = False

    def as_json(self) -> dict[str, Any]:
        """The content of `results.json`.

        By arm: `<protocol>_<metric>`, the scores by seed (null where the run failed), such as `probe_miou`; `seeds`;
        `pretraining` (method, data, steps and versions by run; null from scratch); `summary` by protocol with `mean`,
        `standard_deviation`, `difference` (to the `baseline`, paired over the seeds, with `interval_95`), the means
        `by_class`, and what else scores of this kind have (`accuracy` by seed and the mean by `official` rule in
        segmentation); and `failed`, why by run.
        """
        keys = {name: score_key(name, protocol) for name, protocol in self.protocols.items()}
        return {
            arm: {**{keys[name]: values for name, values in scores.items()}, **self.arms.get(arm, {})}
            for arm, scores in self.scores.items()
        }

    def __str__(self) -> str:
        notes = [f"{self._what()}; {self.path / 'results.json'}", *explanations(self.protocols)]
        differences = self._differences()
        lines = _aligned(self._rows())
        if differences:
            lines += ["", *_aligned(differences), f"{DIFFERENCES}", ""]
        return "\n".join([*lines, *map(printable, notes)])

    def markdown(self) -> str:
        """The table in Markdown, with all that its numbers are worth nothing without."""
        differences = self._differences()
        tables = [_markdown_table(self._rows())]
        if differences:
            tables.append([*_markdown_table(differences), "", f"- {DIFFERENCES}."])
        notes = [f"{self._what()}.", *(f"{printable(line)}." for line in explanations(self.protocols))]
        return "\n".join([*(line for table in tables for line in (*table, "")), *(f"- {note}" for note in notes)])

    def write(self) -> None:
        """Write `results.json`, `protocols.json`, `table.txt` and `table.md` to the folder."""
        write_json(self.path / "results.json", self.as_json())
        write_json(self.path / "protocols.json", self.protocols)
        write_text(self.path / "table.txt", f"{self}\n")
        write_text(self.path / "table.md", f"{self.markdown()}\n")

    def _rows(self) -> list[list[str]]:
        names = list(next(iter(self.scores.values())))
        rows = [titled(self.protocols, names)]
        return [*rows, *([arm, *(mean_and_spread(by[name]) for name in names)] for arm, by in self.scores.items())]

    def _what(self) -> str:
        runs = next(iter(next(iter(self.scores.values())).values()))
        return what_of_seeds(len(runs), pretrained_once=self.pretrained_once)

    def _differences(self) -> list[list[str]]:
        return [] if self.baseline is None else differences_table(self.scores, self.baseline)


def gather(config: CompareConfig, runs: Sequence[Run], failures: Sequence[Failure]) -> Comparison:
    """Read the results of all runs.

    Args:
        config: the comparison.
        runs: all its runs.
        failures: those that did not run to their end; a run without labels to score joins them.
    """
    found: dict[str, dict[str, list[dict[str, Any] | None]]] = {arm: {} for arm in config.arms}
    unscored: list[Failure] = []
    for run in (run for run in runs if run.protocol is not None):
        result = _result(run)
        if result is not None and Score.of(result).value is None:
            unscored.append(Failure(result["name"], "no labels in the scored split; set val_split to a labelled one"))
            result = None
        found[run.arm].setdefault(run.protocol or "", []).append(result)
    kinds = {name: scored_kind(reference.recipe) for name, reference in config.protocols.items()}
    unscored += _drop_incomparable(found, kinds)
    every = (*failures, *unscored)
    return Comparison(
        path=config.out / config.name,
        scores={arm: {name: [_rounded(r) for r in cell] for name, cell in by.items()} for arm, by in found.items()},
        protocols={name: _protocol(config, name, kinds[name], found) for name in config.protocols},
        seeds=config.seeds,
        arms={arm: _arm(config, arm, kinds, found, runs, every) for arm in found},
        failures=every,
        baseline=config.compared_with,
        pretrained_once=bool(config.pretrainings()) and not config.pretrain_seeds,
    )


def _drop_incomparable(
    found: dict[str, dict[str, list[dict[str, Any] | None]]], kinds: dict[str, ScoredKind[Any]]
) -> list[Failure]:
    """Take out what was scored by another metric, or over other things, than the first of its protocol.

    Runs of a protocol share their settings, so this happens where data changed between them.
    """
    first: dict[str, dict[str, Any]] = {}
    dropped = []
    for by in found.values():
        for protocol, cell in by.items():
            for place, result in enumerate(cell):
                if result is None:
                    continue
                wanted = first.setdefault(protocol, result)
                odd = _not_shared(kinds[protocol], result, wanted)
                if odd is not None:
                    cell[place] = None
                    dropped.append(Failure(result["name"], f"{odd}; remove its folder and start again"))
    return dropped


def _not_shared(kind: ScoredKind[Any], result: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """The first thing that two scores do not share, in words; of lists of words, which of them differ."""
    here, there = ({"metric": Score.of(one).metric, **kind.scored_over(one)} for one in (result, wanted))
    for what in here:
        if here[what] != there[what]:
            words = [one for one in (here[what], there[what]) if isinstance(one, list)]
            named = len(words) == 2 and all(isinstance(word, str) for both in words for word in both)
            odd = f" ({', '.join(sorted(set(words[0]) ^ set(words[1])))})" if named else ""
            return f"scored {'over' if named else 'on'} other {what} than {wanted['name']}{odd}"
    return None


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines of text, in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = rows
    lines = [_cells(head), ["---"] * len(head), *map(_cells, body)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _cells(row: Sequence[str]) -> list[str]:
    """Cells of a row that cannot end their cell."""
    return [printable(cell).replace("|", "\\|") for cell in row]


def _result(run: Run) -> dict[str, Any] | None:
    if not run.done:
        return None
    kind = run.kind
    return kind.read(run.path) if isinstance(kind, ScoredKind) else None


def _score(result: dict[str, Any] | None) -> float | None:
    return None if result is None else Score.of(result).value


def _rounded(result: dict[str, Any] | None) -> float | None:
    score = _score(result)
    return None if score is None else round(score, 2)


def _protocol(config: CompareConfig, name: str, kind: ScoredKind[Any], found: dict[str, Any]) -> dict[str, Any]:
    """What the first result of a protocol says of it, and its place in the plot."""
    first = next((result for by in found.values() for result in by[name] if result is not None), None)
    if first is None:
        return {"recipe": config.protocols[name].recipe}
    train = first["protocol"]["train"]
    every = [result for by in found.values() for result in by[name] if result]
    versions = {(result["protocol"]["olivine"], result["protocol"]["code"]) for result in every}
    seen = {scene for result in every for scene in result["protocol"].get("pretraining_scenes_scored", ())}
    return {
        **first["protocol"],
        "recipe": config.protocols[name].recipe,
        "labelled_scans": train["frames"],
        "fraction": config.protocols[name].fraction or 1 / train["every"],
        **{key: Score.of(first).as_dict()[key] for key in ("metric", "unit")},
        **kind.protocol(first),
        "pretraining_scenes_scored": sorted(seen),
        "versions": sorted(list(version) for version in versions),
    }


def _arm(
    config: CompareConfig,
    arm: str,
    kinds: dict[str, ScoredKind[Any]],
    found: dict[str, dict[str, list[dict[str, Any] | None]]],
    every: Sequence[Run],
    failures: Sequence[Failure],
) -> dict[str, Any]:
    runs = [run for run in every if run.arm == arm]
    baseline = config.compared_with
    names = {run.path.name for run in runs}
    return {
        "seeds": list(config.seeds),
        "pretraining": {run.path.name: _pretraining(run) for run in runs if run.protocol is None} or None,
        "baseline": baseline,
        "summary": {
            name: {
                **_spread(cell),
                **kinds[name].summary(cell),
                "difference": None if arm == baseline else _difference(cell, found[baseline][name]),
            }
            for name, cell in found[arm].items()
        },
        "failed": {failure.name: failure.message for failure in failures if failure.name in names},
    }


def _pretraining(run: Run) -> dict[str, Any] | None:
    if not run.done:
        return None
    content: dict[str, Any] = json.loads((run.path / "weights.json").read_text(encoding="utf-8"))
    return content


def _difference(
    cell: Sequence[dict[str, Any] | None], baseline: Sequence[dict[str, Any] | None]
) -> dict[str, Any] | None:
    found = paired_difference([_rounded(result) for result in cell], [_rounded(result) for result in baseline])
    return None if found is None else found.as_dict()


def _spread(cell: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    scores = [_score(result) for result in cell]
    return {"mean": mean_of_known(scores), "standard_deviation": standard_deviation(scores)}
