"""The house style of every picture: colours, sizes, deterministic PNG bytes.

Belongs: what all pictures share.
Does not: any single plot (each lives beside the numbers it shows).
Concept: Okabe-Ito colours, always with text or shape beside the colour.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFIDENT = "#0072B2"
POSSIBLE = "#E69F00"
REFER = "#999999"
WRONG = "#D55E00"
CERTIFIED = "#009E73"
INK = "#222222"

_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def new_figure(width: float = 7.0, height: float = 4.0) -> Figure:
    """An empty figure in the house style (inches); no global pyplot state is touched."""
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    matplotlib.rcParams.update(_STYLE)
    return Canvas(figsize=(width, height), layout="constrained")


def png(figure: Figure, dpi: int = 110) -> bytes:
    """PNG bytes of a figure: no time stamp or version inside, so same inputs mean same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def fewer_colours(data: bytes, colours: int = 128) -> bytes:
    """A drawing's PNG with a palette: a third of the bytes, and no difference that one would see.

    For where a picture is stored several times over; a photograph would show it. The palette spans
    the colours instead of following how often each occurs: a rare one is what a drawing is about.
    """
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as drawn:
        kept = drawn.convert("RGB").quantize(
            colours, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    kept.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
