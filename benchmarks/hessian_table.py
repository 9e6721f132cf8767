"""The figures of `hessian.py` as text in Markdown."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

NAMES = {"ours": "landscape", "pyhessian": "PyHessian 0.1", "curvlinops": "curvlinops 3.0.1"}


def machine(command: str) -> str:
    """One line: the command, the processor and the versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    where = next(named, platform.machine())
    return (
        f"Written by `{command}`; {where}, one thread, Python {platform.python_version()}, torch {torch.__version__}."
    )


def table(found: dict[str, Any]) -> str:
    """Per quantity one row a network and contender; then the means and the targets."""
    command = f"python benchmarks/hessian.py --model {found['model']}"
    lines = [f"# Trace and top eigenvalues at equal accuracy: {found['model']}", "", machine(command), ""]
    for one in found["networks"]:
        lines.append(
            f"- {one['name']}, {one['state']}: {one['parameters']:,} parameters, {one['samples']:,} samples of "
            f"{one['data']}, loss {one['loss']:.4f}, error {one['error_percent']:.1f} %; exact trace "
            f"{one['exact']['trace']:.6g} (checked by slow means to {abs(one['exact']['trace_check']):.0e}), top five "
            f"eigenvalues {', '.join(f'{value:.4g}' for value in one['exact']['eigenvalues'])}"
        )
    lines += ["", "Runs: timed + replayed. Misses: runs off by more than 1 % (the worst of five), the trace by 10 %."]
    for quantity in ("trace", "top5", "top1"):
        lines += ["", f"## {quantity}", "", HEADER, RULE]
        for one in found["networks"]:
            lines += [_row(f"{one['name']}, {one['state']}", name, one[quantity]) for name in NAMES]
        lines += [_mean_row(name, found[quantity]) for name in NAMES]
        lines += ["", *_notes(found, quantity)]
    return "\n".join([*lines, "", "## Targets", "", *map(_target, found["targets"])])


HEADER = "| network | way | seconds | times slower (95 %) | rms error | misses | products | runs | settings |"
RULE = "|---|---|---|---|---|---|---|---|---|"


def _row(network: str, name: str, part: dict[str, Any]) -> str:
    if part[f"{name}_seconds"] is None:
        return f"| {network} | {NAMES[name]} | not installed ||||||"
    ratio = "1"
    if name != "ours":
        low, high = part[f"ratio_{name}_interval"]
        ratio = f"**{part[f'ratio_{name}']:.2f}** ({low:.2f}-{high:.2f})"
    settings = ", ".join(f"{key}={value}" for key, value in part[f"{name}_settings"].items() if key != "k")
    return (
        f"| {network} | {NAMES[name]} | {part[f'{name}_seconds']:.4g} | {ratio} | {part[f'{name}_rms_error']:.2%} "
        f"| {part[f'{name}_miss_rate']:.1%} | {_cost(name, part)} "
        f"| {part[f'{name}_timed_runs']}+{part[f'{name}_replayed_runs']} | {settings} |"
    )


def _mean_row(name: str, part: dict[str, Any]) -> str:
    if part[f"{name}_seconds"] is None:
        return f"| all | {NAMES[name]} | not installed ||||||"
    ratio = "1" if name == "ours" else f"**{part[f'ratio_{name}']:.2f}**"
    return (
        f"| all | {NAMES[name]} | {part[f'{name}_seconds']:.4g} | {ratio} | {part[f'{name}_rms_error']:.2%} "
        f"| {part[f'{name}_miss_rate']:.1%} | {_cost(name, part)} | | |"
    )


def _cost(name: str, part: dict[str, Any]) -> str:
    """Products and, where they are counted, gradients over all the data."""
    if name != "ours":
        return f"{part[f'{name}_products']:.1f}"
    gradients = f"{part['ours_gradients']:.1f} gradients"
    return f"{part['ours_products']:.1f} ({gradients})" if part["ours_products"] else gradients


def _notes(found: dict[str, Any], quantity: str) -> list[str]:
    lines = []
    for one in found["networks"]:
        part = one[quantity]
        if part["pyhessian_timed_probes_share"] < 1:
            lines.append(
                f"- {one['name']}, {one['state']}: PyHessian was timed with {part['pyhessian_timed_probes_share']:.0%} "
                "of its probes and the seconds scaled; its errors come from pooled probes."
            )
        if part["pyhessian_misses_by_sign"]:
            runs = part["pyhessian_timed_runs"] + part["pyhessian_replayed_runs"]
            lines.append(
                f"- {one['name']}, {one['state']}: {part['pyhessian_misses_by_sign']} of PyHessian's misses in {runs} "
                "runs are negative eigenvalues of larger magnitude."
            )
    one_batch = found[quantity]["ratio_pyhessian_one_batch"]
    lines.append(
        f"- PyHessian given all the data as one batch, whose graph it keeps in memory: {one_batch:.2f} times slower "
        "(from the time of one product)."
    )
    return lines


def _target(line: dict[str, Any]) -> str:
    if line["met"] is None:
        return f"- {line['quantity']} {line['ratio']}: {line['measured']}, no target or no peer"
    verdict = "met" if line["met"] else "MISSED"
    return f"- {line['quantity']} {line['ratio']}: {line['measured']:.4g} against {line['target']:.4g}: {verdict}"
