"""Class mask: which classes may be said at all.

Belongs: names of a mask -> (K,) bool, and every way they can be wrong.
Does not: what is left of a row's probabilities (``normalise``), rows decided or not (``prepare``).
Concept: a class that cannot be (not in this clinic, not for this body site, retired) gets nothing
and wins nothing. A then B is A and B: masks compose as sets do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dagster_project.lib.errors import InputError, some, unknown_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from dagster_project.lib.rollup.config import Mask


def allowed_classes(mask: Mask | None, classes: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which classes the mask keeps.

    Parameters
    ----------
    mask : None, or a mask without lists, keeps all. A name may stand in a list twice.
    classes : (K,) names, in output order.

    Returns
    -------
    (K,) bool, at least one of them True.

    Raises
    ------
    InputError
        A name that is no class, with the nearest that is; nothing is kept.
    """
    if mask is None or (mask.include is None and mask.exclude is None):
        return np.ones(len(classes), dtype=bool)
    key = "exclude" if mask.include is None else "include"
    names = getattr(mask, key)
    for name in names:
        if name not in classes:
            raise InputError(f"mask.{key}: {unknown_class(name, classes)}; correct the name")
    listed = np.isin(np.asarray(classes), np.asarray(names, dtype=str))
    allowed = listed if key == "include" else ~listed
    if not allowed.any():
        what = f"{some(names)}: excludes all {len(classes)} classes" if names else "is empty"
        raise InputError(f"mask.{key} {what}; keep at least one")
    return allowed
