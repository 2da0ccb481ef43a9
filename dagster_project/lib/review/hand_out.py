"""What leaves: one folder a reviewer, and the same as a zip file that is ready to be sent.

Belongs: neutral photographs, the blank sheet, the class list, the instructions, the zip.
Does not: choosing and ordering (``packet``), the page itself (``page``), what stays (``packet``).
Concept: blind reading; whatever is written here may be seen by the reviewer. It is made from image
ids, orders and class names alone: no label, prediction, score, stratum or patient is at hand.
::

    hand_out/<reviewer>/   derm_review_BLIND.csv  images/  index.html  packet.js  classes.txt
                           README.txt
    hand_out/<reviewer>.zip
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from dagster_project.lib import files, tables
from dagster_project.lib.labels.drop import NOT_USABLE, UNSURE
from dagster_project.lib.photos import open_photo

SHEET = "derm_review_BLIND.csv"
CHOICES = {
    UNSURE: "you cannot decide between classes",
    NOT_USABLE: "no skin to be seen, or the photograph cannot be judged",
}

_README = """\
{n} photographs for {reviewer}

Unzip the folder first (Windows: right click, "Extract all"). Then there are two ways; choose one.

With the page (quicker)
1. Double-click index.html. It works without internet, and nothing leaves your computer.
2. Type the first letters of the class, press Enter, and the next photograph comes. {practice}
   Your answers are kept in the browser; close it and go on later.
3. At the end, or whenever you like, let the page download your answers and send the file,
   {answer}, back to us, with the timing file beside it.

With a spreadsheet
1. Open {sheet}.
2. For each row look at the photograph named in image_path, and write in "label" the class you would
   give it, spelled as in classes.txt. Write "unsure" if you cannot decide between classes,
   "not_usable" if there is no skin to be seen or the photograph cannot be judged.
3. Write {reviewer} in "reviewer" in every row that you judge; if you like, a number from 0 to 1 in
   "confidence", and anything in "comment". Leave image_uuid and image_path as they are.
4. Save as CSV (UTF-8, commas) under the name {answer} and send it back to us.

A half-finished file is welcome: rows without a label count as not yet judged. Please judge alone
and from the photograph only. The photographs come in a random order of your own.
"""


@dataclass(frozen=True)
class Shown:
    """One showing of an image.

    Attributes
    ----------
    image_uuid : the id it is shown under. ``file`` : name in ``images/``.
    source : the photograph. ``practice`` : only in the page, and not counted.
    metadata : what else may be seen.
    """

    image_uuid: str
    file: str
    source: Path
    practice: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HandOut:
    """What every reviewer of a packet gets.

    Attributes
    ----------
    packet : the packet's hash.
    classes : (K,) name and description (may be empty).
    practice : shown first, to everyone alike.
    orders : reviewer -> showings in the reviewer's own order.
    """

    packet: str
    classes: Sequence[tuple[str, str]]
    practice: Sequence[Shown]
    orders: Mapping[str, Sequence[Shown]]


def answer_name(packet: str, reviewer: str) -> str:
    """Under which a reviewer's answers come back: packets and reviewers never share a name."""
    return f"review_{packet[:8]}_{reviewer}.csv"


def write_hand_out(folder: Path, content: HandOut, on_photo: Callable[[], None]) -> None:
    """Write a folder and a zip file for each reviewer into ``folder``, which must be there.

    Each photograph is decoded, turned upright and encoded once, without EXIF; other showings and
    other reviewers' folders are hard links to it, or copies where links are not to be had.

    Parameters
    ----------
    on_photo : called after each photograph encoded.

    Raises
    ------
    InputError
        A photograph that does not open; class names whose keys collide on the page.
    """
    encoded: dict[Path, Path] = {}
    for reviewer, order in content.orders.items():
        own = folder / reviewer
        (own / "images").mkdir(parents=True)
        for shown in [*content.practice, *order]:
            target = own / "images" / shown.file
            if shown.source in encoded:
                _link(encoded[shown.source], target)
            else:
                _copy_photo(shown.source, target)
                encoded[shown.source] = target
                on_photo()
        tables.write_csv(own / SHEET, _sheet(order))
        files.write_text(own / "classes.txt", _class_list(content.classes))
        files.write_text(own / "README.txt", _readme(content, reviewer))
        _write_page(own, content, reviewer)
        _zip(own, folder / f"{reviewer}.zip", answer_name(content.packet, reviewer)[:-4])


def _sheet(order: Sequence[Shown]) -> pl.DataFrame:
    """The blank sheet: four empty columns."""
    blank = dict.fromkeys(("reviewer", "label", "confidence", "comment"), pl.lit(None, pl.String))
    rows = [(shown.image_uuid, f"images/{shown.file}") for shown in order]
    sheet = pl.DataFrame(rows, schema=["image_uuid", "image_path"], orient="row")
    return sheet.with_columns(**blank)


def _class_list(classes: Sequence[tuple[str, str]]) -> str:
    words = [*classes, *CHOICES.items()]
    width = max(len(name) for name, _ in words) + 2
    return "".join(f"{name:{width}}{about}".rstrip() + "\n" for name, about in words)


def _readme(content: HandOut, reviewer: str) -> str:
    n = len(content.practice)
    practice = f"\n   The first {n} photographs are for practice and do not count." if n else ""
    return _README.format(
        n=len(content.orders[reviewer]),
        reviewer=reviewer,
        practice=practice,
        sheet=SHEET,
        answer=answer_name(content.packet, reviewer),
    )


def _write_page(folder: Path, content: HandOut, reviewer: str) -> None:
    from dagster_project.lib.review.page import PageContent, Presentation, ReviewClass, write_page

    shown = [
        Presentation(
            image_uuid=item.image_uuid,
            image_path=f"images/{item.file}",
            practice=item.practice,
            shown=item.metadata,
        )
        for item in [*content.practice, *content.orders[reviewer]]
    ]
    classes = [ReviewClass(name, about) for name, about in content.classes]
    write_page(folder, PageContent(content.packet, reviewer, classes, shown))


def _copy_photo(source: Path, target: Path) -> None:
    photo = open_photo(source)
    profile = photo.info.get("icc_profile")
    # A phone's wide-gamut colours need their profile; one for print would distort RGB.
    colours = profile if profile and profile[16:20] == b"RGB " else None
    photo.info = {}
    photo.save(target, "JPEG", quality=95, subsampling=0, icc_profile=colours)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # no links here, or too many of one file
        shutil.copyfile(source, target)


def _zip(folder: Path, path: Path, top: str) -> None:
    """``folder`` as ``top/`` in a zip file: stored, sorted, without times, so same in, same out."""
    with files.publish(path) as temp, zipfile.ZipFile(temp, "w") as archive:
        for item in sorted(p for p in folder.rglob("*") if p.is_file()):
            entry = zipfile.ZipInfo(f"{top}/{item.relative_to(folder).as_posix()}")
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            entry.file_size = item.stat().st_size
            with item.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, files.CHUNK)
