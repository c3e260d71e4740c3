#!/usr/bin/env python3
"""Histogram the invariant mass of muon pairs: reads a CSV file, writes histogram.csv and histogram.svg.

Needs Python's standard library only. It first prints who it runs as: the account, the home,
and the certificate subject found in its proxy.
"""

import argparse
import csv
import math
import os
import re
import subprocess
import time
from pathlib import Path

Bins = list[tuple[float, float, int, int]]

MARKS = ((3.0969, "J/ψ"), (9.4603, "\u03d2"), (91.1876, "Z"))
OPPOSITE, SAME, INK, GRID = "#2f6fb5", "#e0912f", "#24303c", "#dfe5ea"


def proxy_subjects(path: str) -> list[str]:
    """Return the subjects in a proxy file, the proxy first and its owner last."""
    pattern = r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----"
    subjects = []
    for block in re.findall(pattern, Path(path).read_text(), re.DOTALL):
        done = subprocess.run(
            ["/usr/bin/openssl", "x509", "-noout", "-subject", "-nameopt", "compat"],
            input=block,
            capture_output=True,
            text=True,
            check=True,
        )
        subjects.append(done.stdout.strip().removeprefix("subject=").strip())
    return subjects


def say_who_i_am() -> None:
    """Print the account, the home and the owner, as the machine sees them."""
    print("id:", subprocess.run(["id"], capture_output=True, text=True, check=True).stdout.strip(), flush=True)
    print("home:", os.environ.get("HOME", "none"), flush=True)
    proxy = os.environ.get("X509_USER_PROXY", "")
    print("dn:", proxy_subjects(proxy)[-1] if proxy else "none", flush=True)


def invariant_mass(row: dict[str, str]) -> float:
    """Return the mass of the pair in GeV; the muons' own mass does not matter at these energies."""
    pt1, pt2 = float(row["pt1"]), float(row["pt2"])
    deta = float(row["eta1"]) - float(row["eta2"])
    dphi = float(row["phi1"]) - float(row["phi2"])
    return math.sqrt(max(2 * pt1 * pt2 * (math.cosh(deta) - math.cos(dphi)), 0.0))


def fill(path: str, low: float, high: float, count: int, logarithmic: bool) -> tuple[Bins, int]:
    """Return the histogram and the number of events read."""
    opposite, same, events = [0] * count, [0] * count, 0
    scale = math.log if logarithmic else float
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            events += 1
            mass = invariant_mass(row)
            if low <= mass < high:
                place = int((scale(mass) - scale(low)) / (scale(high) - scale(low)) * count)
                chosen = opposite if row["q1"] != row["q2"] else same
                chosen[min(place, count - 1)] += 1
    if logarithmic:
        edges = [low * (high / low) ** (i / count) for i in range(count + 1)]
    else:
        edges = [low + (high - low) * i / count for i in range(count + 1)]
    return [(edges[i], edges[i + 1], opposite[i], same[i]) for i in range(count)], events


def write_csv(path: str, bins: Bins) -> None:
    """Write one line a bin."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("low_gev", "high_gev", "opposite_charge", "same_charge"))
        writer.writerows((f"{low:.4f}", f"{high:.4f}", opposite, same) for low, high, opposite, same in bins)


def write_svg(path: str, bins: Bins, events: int, logarithmic: bool) -> None:
    """Draw the histogram."""
    width, height, left, right, top, bottom = 860, 480, 70, 24, 64, 58
    scale = math.log10 if logarithmic else float
    low, high = scale(bins[0][0]), scale(bins[-1][1])
    most = max([1, *(b[2] for b in bins), *(b[3] for b in bins)])
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if most / s <= 6)
    peak = (most // step + 1) * step

    def x(mass: float) -> float:
        return left + (scale(mass) - low) / (high - low) * (width - left - right)

    def y(count: float) -> float:
        return height - bottom - count / peak * (height - top - bottom)

    def outline(column: int) -> str:
        steps = "".join(f"V{y(b[column]):.1f}H{x(b[1]):.1f}" for b in bins)
        return f"M{left},{y(0):.1f}{steps}V{y(0):.1f}"

    text = 'font-family="DejaVu Sans, Helvetica, Arial, sans-serif"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" {text} font-size="13" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="28" font-size="18" font-weight="bold">Invariant mass of muon pairs</text>',
        f'<text x="{left}" y="47" fill="#5b6b7a">{events} events, {sum(b[2] + b[3] for b in bins)} in range</text>',
    ]
    for tick in range(0, peak + 1, step):
        parts.append(f'<path d="M{left},{y(tick):.1f}H{width - right}" stroke="{GRID}"/>')
        parts.append(f'<text x="{left - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    if logarithmic:
        ticks = [t for t in (2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 50.0, 100.0) if bins[0][0] <= t <= bins[-1][1]]
    else:
        ticks = [bins[0][0] + (bins[-1][1] - bins[0][0]) * i / 6 for i in range(7)]
    for mass in ticks:
        parts.append(f'<path d="M{x(mass):.1f},{y(0):.1f}v5" stroke="{INK}"/>')
        parts.append(f'<text x="{x(mass):.1f}" y="{y(0) + 20:.1f}" text-anchor="middle">{mass:g}</text>')
    parts.append(
        f'<path d="{outline(2)}" fill="{OPPOSITE}" fill-opacity="0.22" stroke="{OPPOSITE}" stroke-width="1.6"/>'
    )
    parts.append(f'<path d="{outline(3)}" fill="none" stroke="{SAME}" stroke-width="1.6"/>')
    parts.append(f'<path d="M{left},{top}V{y(0):.1f}H{width - right}" fill="none" stroke="{INK}"/>')
    for mass, name in MARKS:
        if bins[0][0] < mass < bins[-1][1]:
            near = max(b[2] for b in bins if b[0] / 1.1 <= mass <= b[1] * 1.1)
            parts.append(f'<text x="{x(mass):.1f}" y="{y(near) - 8:.1f}" text-anchor="middle">{name}</text>')
    parts.append(f'<text x="{width - right}" y="{height - 14}" text-anchor="end">mass (GeV)</text>')
    parts.append(f'<text transform="translate(18,{top}) rotate(-90)" text-anchor="end">pairs per bin</text>')
    for row, (colour, label) in enumerate(((OPPOSITE, "opposite charge"), (SAME, "same charge"))):
        parts.append(f'<rect x="{width - 160}" y="{22 + 19 * row}" width="22" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{width - 130}" y="{29 + 19 * row}">{label}</text>')
    Path(path).write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")


def main() -> None:
    """Read, histogram, write, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events")
    parser.add_argument("--range", nargs=2, type=float, default=(2.0, 130.0), metavar=("LOW", "HIGH"))
    parser.add_argument("--bins", type=int, default=120)
    parser.add_argument("--log", action="store_true", help="logarithmic mass axis")
    parser.add_argument("--repeat", type=int, default=1, help="read the file so often (to take longer)")
    options = parser.parse_args()
    low, high = options.range
    if not 0 < low < high or options.bins < 1 or options.repeat < 1:
        parser.error("need 0 < LOW < HIGH, at least one bin and at least one reading")
    say_who_i_am()
    begun = time.monotonic()
    for _ in range(options.repeat):
        bins, events = fill(options.events, low, high, options.bins, options.log)
    write_csv("histogram.csv", bins)
    write_svg("histogram.svg", bins, events, options.log)
    best = max(bins, key=lambda b: b[2])
    print(f"events: {events}")
    print(f"peak: {best[2]} pairs between {best[0]:.2f} and {best[1]:.2f} GeV")
    print(f"done in {time.monotonic() - begun:.2f} s")


if __name__ == "__main__":
    main()
