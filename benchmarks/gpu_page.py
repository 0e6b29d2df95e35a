"""The page that `benchmarks/gpu.py` writes: Markdown for docs/results/gpu_run.md from what it found."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

Records = Sequence[dict[str, Any]]


def page(told: dict[str, Any]) -> str:
    """The page.

    Args:
        told: `about` and `parts`, as in gpu.json.
    """
    about = told["about"]
    lines = ["# One GPU, measured", ""]
    if about["tiny"]:
        lines += ["**A run of the code on next to nothing; its numbers mean nothing.**", ""]
    versions = ", ".join(f"{name} {about[name]}" for name in ("python", "torch", "triton"))
    lines += [f"`python benchmarks/gpu.py`, {about['device']}, {versions}, {about['cpus']} CPUs.", ""]
    lines += ["| part | | seconds |", "|---|---|---|"]
    lines += [f"| {part['part']} | {_cell(part['status'])} | {part['seconds']:.0f} |" for part in told["parts"]]
    for part in told["parts"]:
        if part["found"]:
            lines += ["", *_section(part)]
    return "\n".join(lines) + "\n"


def _section(part: dict[str, Any]) -> list[str]:
    """What a part found; where it cannot be shown, that is said, and the rest of the page is there."""
    try:
        return _SECTIONS[part["part"].partition("-")[0]](part["found"])
    except (LookupError, TypeError, ValueError) as error:
        return [f"What {part['part']} found cannot be shown, {type(error).__name__}: {error}. It is in gpu.json."]


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|")


def _trouble(found: Records) -> Iterator[str]:
    """What failed or was skipped."""
    failed = [f"- {record['case']}: {record['failed']}" for record in found if isinstance(record.get("failed"), str)]
    skipped = [record["case"] for record in found if "skipped" in record and isinstance(record["skipped"], str)]
    if failed:
        yield from ("", "Failed:", "", *failed)
    if skipped:
        yield from ("", f"Skipped, as the time was used up: {len(skipped)}, of them first {skipped[0]}.")


def _rates(found: Records) -> list[str]:
    lines = ["## What the device does at best", ""]
    for record in found:
        if "gb_per_s" in record:
            lines.append(f"- copies {record['gb_per_s']:g} GB/s, read and written together")
        elif "tflop_per_s" in record:
            lines.append(f"- {record['case']}, {record['size']}: {record['tflop_per_s']:g} TFLOP/s")
        elif record["case"].startswith("state"):
            state = ", ".join(f"{name} {value}" for name, value in record.items() if name != "case")
            lines.append(f"- {record['case']}: {state}")
    return [*lines, *_trouble(found)]


def _doctor(found: Records) -> list[str]:
    bad = [record["case"] for record in found if "FAILED" in record["case"]]
    lines = ["## The device against the CPU", "", f"{len(found) - len(bad)} of {len(found)} lines are ok.", ""]
    return [*lines, "```text", *(record["case"] for record in found), "```"]


def _tests(found: Records) -> list[str]:
    summary, *bad = found
    counts = f"{summary['run']} tests ran on the device, {summary['failed']} failed, {summary['skipped']} were skipped."
    lines = ["## Golden files and properties", "", counts]
    return lines + (["", *(f"- {record['case']}" for record in bad)] if bad else [])


def _bits(found: Records) -> list[str]:
    lines = ["## The same bits", ""]
    for record in found:
        if "same" in record:
            runs = ("second run", "third run", "killed and resumed")
            said = "; ".join(f"{name}: {record[name]}" for name in runs)
            lines.append(f"- {record['case']}, {record['steps']} steps, against the first run: {said}")
        elif "warnings" in record:
            lines.append(f"- {record['case']}, by PyTorch: {'; '.join(record['warnings']) or 'none'}")
        elif "unmeant" in record:
            lines.append(f"- {record['case']}, in two steps, by PyTorch: {record['unmeant']}")
    return [*lines, *_trouble(found)]


def _networks(found: Records) -> list[str]:
    """A row for each case, a column for each path, milliseconds."""
    cases: dict[str, dict[str, dict[str, Any]]] = {}
    for record in found:
        case, colon, path = record["case"].rpartition(": ")
        if colon:
            cases.setdefault(case, {})[path] = record
    same = [f"- {record['case']}: differs by {record['difference']:.1e}" for record in found if "difference" in record]
    paths = list(dict.fromkeys(path for row in cases.values() for path in row))
    if not paths:
        return ["## Networks", "", "None was timed.", *_trouble(found)]
    ours = paths[0]
    heading = [*paths, f"{ours}: host", "maps", "× pytorch", "× dense", "peak GB"]
    lines = ["## Networks", "", "Median milliseconds; `host` is the time until the call returned, `maps` what making"]
    lines += ["them anew adds.", "", "| " + " | ".join(["case", *heading]) + " |", "|---" * (len(heading) + 1) + "|"]
    for case, row in cases.items():
        cells = [_ms(row.get(path, {})) for path in paths]
        lines.append(f"| {_cell(case)} | " + " | ".join([*cells, *_derived(row, ours)]) + " |")
    lines += ["", *same] if same else []
    return [*lines, *_trouble([record for record in found if "No module named" not in str(record.get("failed"))])]


def _ms(record: dict[str, Any]) -> str:
    return f"{record['ms']:.2f}" if "ms" in record else "failed" if "failed" in record else "–"


def _derived(row: dict[str, dict[str, Any]], ours: str) -> list[str]:
    own, there = row.get(ours, {}), row.get(f"{ours}, maps there", {})
    if "ms" not in own:
        return ["–"] * 5
    maps = f"{own['ms'] - there['ms']:.2f}" if "ms" in there else "–"
    ratios = [row.get(path, {}).get("ms") for path in ("pytorch", "dense product")]
    faster = f"{ratios[0] / own['ms']:.2f}" if ratios[0] else "–"
    dense = f"{own['ms'] / ratios[1]:.2f}" if ratios[1] else "–"
    return [f"{own['host_ms']:.2f}", maps, faster, dense, f"{own['peak_mb'] / 1000:.2f}"]


def _step(found: Records) -> list[str]:
    lines = [
        "## A step of OLIVINE",
        "",
        "The published recipe for nuScenes on made-up sweeps and images. By stage, with",
    ]
    lines += ["the device waited for at the ends of each, on batches in memory:", ""]
    staged = [record for record in found if "stages_ms" in record]
    if staged:
        names = list(staged[0]["stages_ms"])
        lines += ["| | " + " | ".join([*names, "step, ms", "frames/s", "peak GB", "voxels a frame"]) + " |"]
        lines += ["|---" * (len(names) + 5) + "|"]
    for record in staged:
        cells = [f"{value:.1f}" for value in record["stages_ms"].values()]
        cells += [f"{record['step_ms']:.1f}", f"{record['frames_per_s']:.1f}", f"{record['peak_mb'] / 1000:.1f}"]
        title = re.sub("^by stage: ", "", record["case"])
        lines.append(f"| {title} | " + " | ".join([*cells, str(record["voxels_per_frame"])]) + " |")
    for record in found:
        if "loader_frames_per_s" in record:
            rate, workers = record["loader_frames_per_s"], record["workers"]
            lines += ["", f"The loader alone, with {workers} workers: {rate:.0f} frames a second."]
        if "hours_of_28130_frames_50_epochs" in record:
            lines += ["", _aim(record)]
    return [*lines, *_trouble(found)]


def _aim(record: dict[str, Any]) -> str:
    verdict, hours = "reached" if record["aim_reached"] else "not reached", record["hours_of_28130_frames_50_epochs"]
    waiting = f"{record['waiting_for_data_ms']:.0f} ms of a step of {record['mean_step_ms']:.0f} waiting for data"
    return (
        f"{record['case'].capitalize()}: {record['frames_per_s']:.1f} frames a second, batch {record['batch']}, "
        f"{record['workers']} workers, {waiting}, {record['peak_mb'] / 1000:.1f} GB. 28 130 frames × 50 epochs would "
        f"take **{hours:.1f} hours**; the aim of 12 hours, 33 frames a second, is {verdict}."
    )


def _warm(found: Records) -> list[str]:
    seconds = sum(record.get("seconds", 0.0) for record in found)
    lines = [f"## First runs of networks, {found[0]['case'].rpartition(', ')[2]}", ""]
    return [*lines, f"{len(found)} in {seconds:.0f} s, with what they compile.", *_trouble(found)]


_SECTIONS = {
    "rates": _rates,
    "doctor": _doctor,
    "tests": _tests,
    "bits": _bits,
    "networks": _networks,
    "step": _step,
    "warm": _warm,
}
