#!/usr/bin/env python3
"""Make events.csv: pairs of muons as a collider detector might see them, from a fixed seed.

Resonances stand on a falling background. Each pair gets a mass, a motion of the whole pair and a decay angle, and is
written as transverse momentum (GeV), pseudorapidity, azimuth and charge of both muons. Run again,
it writes the same file byte for byte.
"""

import csv
import math
import random
import sys
from pathlib import Path

SEED = 20261121
EVENTS = 4000
MUON = 0.1056584
# (share of all events, mass in GeV, natural width, detector resolution as a part of the mass)
RESONANCES = (
    (0.115, 3.0969, 0.0001, 0.012),
    (0.015, 3.6861, 0.0003, 0.012),
    (0.055, 9.4603, 0.0001, 0.010),
    (0.020, 10.0233, 0.0001, 0.010),
    (0.014, 10.3552, 0.0001, 0.010),
    (0.300, 91.1876, 2.4952, 0.012),
)
LOWEST, HIGHEST = 2.0, 130.0
HEADER = ("event", "pt1", "eta1", "phi1", "q1", "pt2", "eta2", "phi2", "q2")


def draw_mass(dice: random.Random) -> tuple[float, bool]:
    """Return the mass of a pair, and whether it came from a resonance."""
    choice = dice.random()
    for share, mass, width, resolution in RESONANCES:
        if choice < share:
            natural = mass + width / 2 * math.tan(math.pi * (dice.random() - 0.5) * 0.97)
            return natural * dice.gauss(1, resolution), True
        choice -= share
    # Background: as many pairs below 4 GeV as between 30 and 60.
    return LOWEST * (HIGHEST / LOWEST) ** (dice.random() ** 1.35), False


def decay(mass: float, dice: random.Random) -> list[tuple[float, float, float]]:
    """Return (pt, eta, phi) of the two muons of one pair."""
    half = mass / 2
    momentum = math.sqrt(max(half * half - MUON * MUON, 0.0))
    cosine, azimuth = dice.uniform(-1, 1), dice.uniform(-math.pi, math.pi)
    sine = math.sqrt(1 - cosine * cosine)
    direction = (sine * math.cos(azimuth), sine * math.sin(azimuth), cosine)
    boost_pt, boost_phi = dice.expovariate(1 / 9.0) + 3.0, dice.uniform(-math.pi, math.pi)
    rapidity = dice.gauss(0, 1.0)
    transverse_mass = math.hypot(mass, boost_pt)
    energy = transverse_mass * math.cosh(rapidity)
    beta = (
        boost_pt * math.cos(boost_phi) / energy,
        boost_pt * math.sin(boost_phi) / energy,
        transverse_mass * math.sinh(rapidity) / energy,
    )
    gamma = energy / mass
    beta_squared = sum(b * b for b in beta)
    muons = []
    for sign in (1, -1):
        p = [sign * momentum * d for d in direction]
        along = sum(b * q for b, q in zip(beta, p, strict=True))
        x, y, z = (q + ((gamma - 1) * along / beta_squared + gamma * half) * b for q, b in zip(p, beta, strict=True))
        pt = math.hypot(x, y)
        muons.append((pt, math.asinh(z / pt), math.atan2(y, x)))
    return muons


def main() -> None:
    """Write the file named by the first argument, or events.csv beside this program."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("events.csv")
    dice = random.Random(SEED)
    with target.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for event in range(1, EVENTS + 1):
            mass, resonant = draw_mass(dice)
            muons = decay(mass, dice)
            first = dice.choice((1, -1))
            charges = (first, -first if resonant or dice.random() < 0.8 else first)
            row = [str(event)]
            for (pt, eta, phi), charge in zip(muons, charges, strict=True):
                row += [f"{pt:.4f}", f"{eta:.5f}", f"{phi:.5f}", f"{charge:+d}"]
            writer.writerow(row)


if __name__ == "__main__":
    main()
