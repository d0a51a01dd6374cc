"""Markdown tables."""

import os
import statistics
from collections.abc import Iterable


def table(head: list[str], rows: Iterable[list[str]]) -> None:
    """Prints a table, the first column to the left, the others to the right, readable as it is."""
    cells = [head, *rows]
    widths = [max(len(str(row[i])) for row in cells) for i in range(len(head))]

    def line(row: list[str]) -> str:
        rest = (str(cell).rjust(width) for cell, width in zip(row[1:], widths[1:]))
        return "| " + " | ".join([str(row[0]).ljust(widths[0]), *rest]) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    print("\n".join([line(head), rule, *map(line, cells[1:])]) + "\n", flush=True)


def title(text: str) -> None:
    print(f"### {text}\n", flush=True)


def spread(values: list[float], digits: int = 2) -> str:
    """Median and range."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def median(values: Iterable[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f}"


def machine() -> str:
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    return f"{os.cpu_count()} cores ({model}), kernel {os.uname().release}, load average {os.getloadavg()[0]:.1f}"
