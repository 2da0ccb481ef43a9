"""Rules of other systems, as data for the one engine, so that they can be compared on one table.

Belongs: what Antenna, SpeciesNet, climbing and DARTS do, said as a ``walk.Rule``.
Does not: our own two rules (``place``), running them (``walk``).
Concept: a rule as published. None of them passes over trivial nodes, whatever the configuration.
K = classes that the mask allows, R = ranks, V = nodes, S(v) = summed share of node v's classes.

========== ==================================================================================
antenna    the first rank, finest first, whose largest S reaches that rank's threshold; the
           node is that largest one, wherever it stands (draft of Antenna's rank roll-up)
speciesnet the same with one threshold (0.65) that must be exceeded, and only the five
           largest classes added up (Gadot et al., IET Computer Vision 2024,
           doi 10.1049/cvi2.12318; its cascade without detector and geofence)
climbing   from the top class upward until S reaches one threshold (Goren, Galil, El-Yaniv,
           Hierarchical Selective Classification, NeurIPS 2024, arXiv 2405.11533)
darts      the node of largest S(v) (g(v) + lambda), g(v) = log2(K / classes under v) bits;
           the root, g = 0 and S = 1, means unplaced (Deng, Krause, Berg, Fei-Fei, Hedging
           your bets, CVPR 2012)
========== ==================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib.errors import InputError
from dagster_project.lib.rollup.walk import Rule

if TYPE_CHECKING:
    from dagster_project.lib.rollup.walk import Bools, Floats, Ints

SPECIESNET_THRESHOLD = 0.65
SPECIESNET_CLASSES = 5


def antenna(thresholds: Floats, under: Ints) -> Rule:
    """Largest node of each rank, first rank that reaches its threshold.

    Parameters
    ----------
    thresholds : (R,), NaN: never said. under : (V,) allowed classes of each node.
    """
    return Rule(thresholds, False, _none(under))


def speciesnet(parameter: float | None, n_ranks: int, under: Ints) -> Rule:
    """Largest node of each rank, of the five largest classes only, one threshold for all ranks.

    Parameters
    ----------
    parameter : the threshold, to be exceeded; None: 0.65. under : (V,) allowed classes of a node.
    """
    everywhere = np.full(n_ranks, parameter_of("speciesnet", parameter))
    return Rule(everywhere, False, _none(under), strict=True, largest=SPECIESNET_CLASSES)


def climbing(parameter: float | None, n_ranks: int, under: Ints) -> Rule:
    """From the top class upward until one threshold is reached.

    Parameters
    ----------
    parameter : the threshold; it has no default. under : (V,) allowed classes of a node.
    """
    return Rule(np.full(n_ranks, parameter_of("climbing", parameter)), True, _none(under))


def darts(parameter: float | None, n_ranks: int, n_allowed: int, under: Ints) -> Rule:
    """Largest expected information plus a bonus for being right, over all nodes and the root.

    A node that holds every allowed class ties with the root at most, and is then not said.

    Parameters
    ----------
    parameter : lambda >= 0 in bits; it has no default. 0 wants information only, and says the
        leaf or what beats it; the larger, the coarser, up to everything unplaced.
    under : (V,) allowed classes of each node, classes first; nodes without any are never said.

    Raises
    ------
    InputError
        No lambda, or one below 0 (it is a price of being wrong).
    """
    bonus = parameter_of("darts", parameter)
    if bonus < 0:
        raise InputError(f"parameter of rule darts: {bonus} is below 0; give lambda >= 0 (bits)")
    gain = np.log2(n_allowed / np.maximum(under, 1))
    return Rule(
        np.full(n_ranks, np.nan),
        False,
        _none(under),
        worth=gain + bonus,
        worth_of_nothing=bonus,
    )


def parameter_of(rule: str, parameter: float | None) -> float:
    """The number of a single-parameter rule; only SpeciesNet's may be left out."""
    if parameter is None and rule == "speciesnet":
        return SPECIESNET_THRESHOLD
    if parameter is None or not np.isfinite(parameter):
        raise InputError(f"rule {rule} needs a number as parameter; got {parameter}")
    return parameter


def _none(under: Ints) -> Bools:
    return np.zeros(len(under), dtype=bool)
