"""What ``gpu_check.py`` has measured, as tables, and beside what the backend was built to reach."""

from __future__ import annotations


def bars(report: dict[str, list[dict]]) -> list[dict]:
    """Each bar, the worst that was measured of it, and whether it is met; cases without a figure are counted."""

    def rows(section, least=0, most=9999):
        """Rows of a section, with layers of so many units; of those without figures, all."""
        return [row for row in report.get(section, []) if "skipped" in row or least <= row.get("units", 0) <= most]

    curves, steps, narrow, wide = rows("curves"), rows("steps"), rows("kernels", 80, 192), rows("kernels", 256, 512)
    bars = [
        ("one step, difference to the CPU", "<=", 1e-5, "one_step", curves),
        ("loss in 50 steps, difference to the CPU", "<=", 1e-3, "loss_after_50", curves),
        ("bits of two runs are the same", ">=", 1, "same_bits", curves),
        ("training step, PyTorch eager / ours", ">=", 5, "ratio_eager", steps),
        ("training step, PyTorch in a CUDA graph / ours", ">=", 2, "ratio_graph", steps),
        ("fleet, batched products / ours", ">=", 3, "ratio", rows("fleet")),
        ("kernels, 80 to 192 units, batch from 64, cuDNN fp32 / ours", ">=", 1.5, "ratio_fp32", narrow),
        ("kernels, 256 to 512 units, cuDNN fp32 / ours", ">=", 0.7, "ratio_fp32", wide),
    ]
    return [_bar(*bar) for bar in bars]


def _bar(what: str, relation: str, bar: float, key: str, rows: list[dict]) -> dict:
    found = [float(row[key]) for row in rows if key in row]
    worst = (max(found) if relation == "<=" else min(found)) if found else None
    if worst is None:
        result = "not measured"
    else:
        result = "met" if (worst <= bar if relation == "<=" else worst >= bar) else "not met"
    missing = sum("skipped" in row for row in rows)
    return {
        "what": what, "bar": f"{relation} {bar:g}", "worst": worst, "cases": len(found), "without": missing,
        "result": result,
    }  # fmt: skip


def markdown(report: dict) -> str:
    """All sections as tables of Markdown."""
    sections = {name: rows for name, rows in report.items() if isinstance(rows, list)}
    return "\n".join(f"### {name}\n\n{table(rows)}\n" for name, rows in sections.items())


def table(rows: list[dict]) -> str:
    """Markdown of rows with the same keys; others follow as lines."""
    good = [row for row in rows if "skipped" not in row]
    lines = []
    if good:
        keys = list(dict.fromkeys(key for row in good for key in row))
        lines += [" | ".join(keys), " | ".join("---" for _ in keys)]
        lines += [" | ".join(_cell(row.get(key)) for key in keys) for row in good]
    lines = [f"| {line} |" for line in lines]
    return "\n".join([*lines, *(f"\nskipped {row['case']}: {row['skipped']}" for row in rows if "skipped" in row)])


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < abs(value) < 0.01 else f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return "" if value is None else str(value).replace("|", "/")
