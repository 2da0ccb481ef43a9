"""The review page in a real browser, from disk: what a dermatologist types, and what returns."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import browser
import firefox
import polars as pl
import pytest
from PIL import Image

from dagster_project.lib.labels.drop import read_drop
from dagster_project.lib.review.page import (
    PageContent,
    Presentation,
    ReviewClass,
    folded,
    write_page,
)

pytestmark = pytest.mark.skipif(browser.found() is None, reason="no Chromium on PATH")

NAMES = ("urticaria", "nummular_eczema", "contact_dermatitis", "acne", "Bowen's disease", "tinea")
HEADER = ["image_uuid", "image_path", "reviewer", "label", "confidence", "comment"]


@pytest.fixture(scope="module")
def image() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (64, 48), (150, 110, 90)).save(sink, "JPEG")
    return sink.getvalue()


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with browser.opened(1280, 720) as page:
        yield page


class Desk:
    """One reviewer before one page: everything here is done with keys and clicks."""

    def __init__(self, page: browser.Page, folder: Path) -> None:
        self.page, self.folder = page, folder
        page.downloads(folder)
        page.requests.clear()
        page.problems.clear()

    def open(self) -> None:
        self.page.open(self.folder / "index.html")
        self.wait("document.body.dataset.screen !== 'opening'")

    def start(self) -> None:
        self.open()
        self.page.press("Enter")
        self.shown()

    def wait(self, expression: str) -> None:
        self.page.until(expression)

    def shown(self) -> str:
        self.wait("document.body.dataset.screen === 'review' && document.body.dataset.shown")
        return str(self.page.read("document.body.dataset.shown"))

    def screen(self) -> str:
        return str(self.page.read("document.body.dataset.screen"))

    def answer(self, letters: str) -> None:
        """Type, Enter, and wait for what comes next."""
        before = self.page.read("document.body.dataset.shown")
        self.page.type(letters)
        self.page.press("Enter")
        self.wait(
            "document.body.dataset.screen !== 'review' || document.body.dataset.shown && "
            f"document.body.dataset.shown !== {json.dumps(before)}"
        )

    def key(self, key: str) -> str:
        """A key that leads to another image; its id."""
        self.page.press(key)
        return self.shown()

    def suggested(self, letters: str) -> list[str]:
        self.page.type(letters)
        found: list[str] = self.page.read(
            "[...document.querySelectorAll('#choices li')].map((e) => e.firstChild.textContent)"
        )
        self.page.press("Escape")
        return found

    def digits(self) -> list[str]:
        found: list[str] = self.page.read(
            "[...document.querySelectorAll('#recents span')].map((e) => e.textContent)"
        )
        return found

    def file(self, ending: str, act: Callable[[], object]) -> Path:
        """What is downloaded by an action."""
        for old in self.folder.glob(f"review_*{ending}"):
            old.unlink()
        act()
        end = time.monotonic() + 20
        while not (found := [p for p in self.folder.glob(f"review_*{ending}") if p.stat().st_size]):
            assert time.monotonic() < end, "nothing was downloaded"
            time.sleep(0.005)
        return found[0]

    def exported(self) -> list[list[str]]:
        path = self.file(".csv", lambda: self.control("s"))
        text = path.read_bytes().decode("utf-8-sig")
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))

    def control(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.page.call(
                "Input.dispatchKeyEvent", type=kind, key=key, modifiers=2,
                windowsVirtualKeyCode=ord(key.upper()),
            )  # fmt: skip

    def load(self, path: Path) -> str:
        """Hand a file to the page; what it says of it."""
        self.page.read("document.getElementById('file-said').textContent = ''")
        root = self.page.call("DOM.getDocument")["root"]["nodeId"]
        node = self.page.call("DOM.querySelector", nodeId=root, selector="#load")["nodeId"]
        self.page.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)
        self.wait("document.getElementById('file-said').textContent")
        return self.page.text("#file-said")


@pytest.fixture
def desk(tab: browser.Page, image: bytes, tmp_path: Path, request: Any) -> Callable[..., Desk]:
    """Make a packet and sit down before it; each has a hash, and so a memory, of its own."""
    made = iter(range(9))

    def make(n: int = 6, practice: int = 0, **more: Any) -> Desk:
        number = next(made)
        packet = folded(request.node.name).replace(" ", "")[-20:] + str(number)
        folder = tmp_path / packet
        write_packet(folder, image, n, practice, **({"packet": packet} | more))
        return Desk(tab, folder)

    return make


def write_packet(
    folder: Path,
    image: bytes,
    n: int,
    practice: int = 0,
    *,
    packet: str,
    gap_ms: int = 0,
    classes: Sequence[ReviewClass] = tuple(map(ReviewClass, NAMES)),
    ids: Sequence[str] = (),
    shown: dict[str, str] | None = None,
) -> None:
    (folder / "images").mkdir(parents=True)
    names = [f"practice-{i}" for i in range(practice)] + list(ids or (f"img-{i}" for i in range(n)))
    presentations = []
    for i, name in enumerate(names):
        (folder / "images" / f"{i:03d}.jpg").write_bytes(image)
        presentations.append(
            Presentation(name, f"images/{i:03d}.jpg", practice=i < practice, shown=shown or {})
        )
    write_page(folder, PageContent(packet, "ann", classes, presentations, gap_ms))


def test_two_hundred_typed_reviews_with_a_break_are_one_label_version(
    image: bytes, tmp_path: Path
) -> None:
    folder, profile, drop = tmp_path / "packet", tmp_path / "profile", tmp_path / "drop"
    write_packet(folder, image, 200, 5, packet="e2e0123456789abc")
    typed = {"urt": "urticaria", "num": "nummular_eczema", "con d": "contact_dermatitis",
             "ac": "acne", "bow": "Bowen's disease", "u": "unsure", "n": "not_usable"}  # fmt: skip
    letters = [list(typed)[(3 * i + i // 7) % len(typed)] for i in range(200)]
    with browser.opened(1280, 720, profile) as page:
        desk = Desk(page, folder)
        desk.start()
        assert page.text("#counter") == "practice 1 of 5"
        for _ in range(5):
            desk.answer("tin")
        assert desk.screen() == "between"
        assert desk.key("Enter") == "img-0"
        for i in range(120):
            desk.answer(letters[i])
    with browser.opened(1280, 720, profile) as page:
        desk = Desk(page, folder)
        desk.open()
        assert page.text("#progress").startswith("120 of 200 answered")
        assert desk.key("Enter") == "img-120" and page.text("#counter") == "121 / 200"
        for i in range(120, 200):
            desk.answer(letters[i])
        assert desk.screen() == "end"
        rows = desk.exported()
        timing = json.loads(
            desk.file("_timing.json", lambda: page.click("#save-timing")).read_text()
        )
        assert page.problems == []
        assert all(url.startswith((folder.as_uri(), "blob:null")) for url in page.requests)
    expected = {f"img-{i}": typed[letters[i]] for i in range(200)}
    assert rows[0] == HEADER
    assert [row[0] for row in rows[1:]] == list(expected)
    assert {row[2] for row in rows[1:]} == {"ann"}
    assert [one["image_uuid"] for one in timing["presentations"]] == list(expected)
    assert all(one["ms"] > 0 and one["answers"] == 1 for one in timing["presentations"])

    drop.mkdir()
    (file,) = folder.glob("review_e2e01234_ann.csv")
    file.rename(drop / file.name)
    found = read_drop(str(drop), classes=NAMES, image_uuids=pl.Series(list(expected)))
    assert found.refusals == () and len(found.version) == 16
    assert dict(found.reviews.select("image_uuid", "label").rows()) == expected


def test_letters_find_a_class_by_its_words_and_keys_of_one_letter_come_first(
    desk: Callable[..., Desk],
) -> None:
    more = ("Hyper-pigmentation", "Ödem", "lichen planus", "lichen sclerosus", "ulcer")
    one = desk(classes=[ReviewClass(name) for name in (*NAMES, *more)])
    one.start()
    assert one.suggested("u")[0] == "unsure" and "ulcer" in one.suggested("u")
    assert one.suggested("ur")[0] == "urticaria" and one.suggested("un")[0] == "unsure"
    assert one.suggested("n")[0] == "not usable" and one.suggested("nu")[0] == "nummular eczema"
    assert one.suggested("li") == ["lichen planus", "lichen sclerosus", "urticaria"][:2]
    assert one.suggested("lich s") == ["lichen sclerosus"]
    assert one.suggested("derm") == ["contact dermatitis"]
    assert one.suggested("hyperp") == one.suggested("hyper p") == ["Hyper-pigmentation"]
    assert one.suggested("bowens") == one.suggested("BOWEN'S") == ["Bowen's disease"]
    assert one.suggested("od") == ["Ödem"]
    # a word's beginning before the inside of a word, then the alphabet
    assert one.suggested("e") == [
        *("nummular eczema", "acne", "Bowen's disease", "contact dermatitis"),
        *("Hyper-pigmentation", "lichen planus", "lichen sclerosus", "not usable", "Ödem"),
        *("tinea", "ulcer", "unsure"),
    ]
    assert one.suggested("zzz") == ["No class has this in its name. ? shows all of them."]
    one.page.type("li")
    one.page.press("ArrowDown")
    one.page.press("Tab")
    one.page.press("ArrowUp")
    one.answer("")
    assert one.exported()[1][3] == "lichen sclerosus"


def test_names_are_folded_in_python_as_in_the_page(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.open()
    names = [
        "Bowen\u2019s Ödem_x",
        "İstanbul ß",
        "ﬁbroma-2",
        "ΣΊΣΥΦΟΣ",
        "e\u0301czéma",
        "皮膚 炎",
        "a/b (c)",
    ]
    assert one.page.read(f"{json.dumps(names)}.map(folded)") == [folded(name) for name in names]


def test_digits_are_the_reviewers_own_classes_and_act_only_on_an_empty_field(
    desk: Callable[..., Desk],
) -> None:
    letters = "abcdefghijkl"
    one = desk(24, classes=[ReviewClass(f"{c}{c}{c} type 2") for c in letters])
    one.start()
    assert one.digits() == []
    one.page.press("1")  # nobody's yet
    assert one.shown() == "img-0"
    for c in letters[:9]:
        one.answer(c * 3)
    assert one.digits() == [f"{c * 3} type 2" for c in letters[:9]]
    for digit in "2345678":  # all but the first and the last are used twice
        one.key(digit)
    one.answer(
        "jjj type 2"
    )  # a 2 within letters is a letter; the tenth takes the first one's place
    assert one.digits() == [f"{c * 3} type 2" for c in "jbcdefghi"]
    one.answer("kkk")  # now the ninth, used once and longest ago
    assert one.digits() == [f"{c * 3} type 2" for c in "jbcdefghk"]
    rows = one.exported()
    assert [row[3][0] for row in rows[1:19]] == list("abcdefghibcdefghjk")


def test_backspace_goes_back_and_the_new_answer_replaces_the_old(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.start()
    for letters in ("ac", "tin", "urt"):
        one.answer(letters)
    assert one.key("Backspace") == "img-2"
    assert one.page.text("#given") == "Your answer: urticaria"
    assert one.key("ArrowLeft") == "img-1" and one.key("ArrowRight") == "img-2"
    assert one.key("ArrowLeft") == "img-1"
    one.answer("con")
    assert one.shown() == "img-3"  # back to work, not through what was answered
    one.page.press("ArrowRight")
    assert one.shown() == "img-3" and "needs an answer" in one.page.text("#said")
    one.page.type("ti")
    one.page.press("Backspace")  # within letters it takes a letter
    assert one.page.read("document.getElementById('field').value") == "t"
    one.page.press("Escape")
    assert one.key("Backspace") == "img-2" and one.key("Enter") == "img-3"
    labels = [row[3] for row in one.exported()[1:]]
    assert labels == ["acne", "contact_dermatitis", "urticaria", "", "", ""]


def test_a_held_key_answers_once_and_no_key_answers_what_is_not_yet_seen(
    desk: Callable[..., Desk],
) -> None:
    one = desk(gap_ms=400)
    one.start()
    one.answer("ac")
    code = {"key": "1", "text": "1", "windowsVirtualKeyCode": 49}
    one.page.call("Input.dispatchKeyEvent", type="keyDown", **code)
    for _ in range(3):
        one.page.call("Input.dispatchKeyEvent", type="keyDown", autoRepeat=True, **code)
    assert not one.page.read("document.body.dataset.shown")  # the gap: grey, no image
    assert one.page.read("document.querySelector('#stage img.current')") is None
    one.page.press("1")
    assert one.shown() == "img-2"
    one.page.call("Input.dispatchKeyEvent", type="keyDown", autoRepeat=True, **code)
    one.page.call("Input.dispatchKeyEvent", type="keyUp", key="1")
    assert one.shown() == "img-2"
    assert [row[3] for row in one.exported()[1:4]] == ["acne", "acne", ""]


def test_confidence_and_comment_return_and_cannot_be_taken_for_a_formula(
    desk: Callable[..., Desk],
) -> None:
    one = desk()
    one.start()
    one.page.press("+")
    one.answer("ac")
    one.page.press("+", 3)
    one.page.press(";")
    one.page.type('=1+1, "x"')
    one.page.press("Enter")
    one.answer("tin")
    one.page.press("+", 4)
    one.answer("urt")
    one.page.press("+")
    one.answer("u")  # how sure one is of being unsure is no vote
    rows = one.exported()
    assert [row[3:] for row in rows[1:5]] == [
        ["acne", "0.9", ""],
        ["tinea", "0.3", '\'=1+1, "x"'],
        ["urticaria", "", ""],
        ["unsure", "", ""],
    ]


def test_the_list_of_classes_is_searched_by_description_and_answers_nothing_itself(
    desk: Callable[..., Desk],
) -> None:
    one = desk(classes=[ReviewClass("tinea", "a fungus"), ReviewClass("acne", "of the face")])
    one.start()
    one.page.press("?")
    one.page.type("fung")
    assert one.page.read("document.querySelectorAll('#found li').length") == 1
    one.page.press("Enter")
    assert one.shown() == "img-0"
    assert one.page.read("document.getElementById('field').value") == "tinea"
    one.answer("")
    assert one.exported()[1][3] == "tinea"


def test_a_backup_or_a_csv_fills_an_empty_browser_and_overwrites_nothing(
    desk: Callable[..., Desk], tmp_path: Path
) -> None:
    one = desk(4, practice=1)
    one.start()
    one.answer("ac")
    one.page.press("Enter")
    for letters in ("tin", "urt"):
        one.shown()
        one.answer(letters)
    one.page.press(".")
    assert one.screen() == "pause"
    assert one.page.read("document.querySelector('#stage img.current')") is None
    backup = one.file("_backup.json", lambda: one.page.click("#save-backup"))
    sheet = one.file(".csv", lambda: one.page.click("#save-csv"))
    kept, cut = tmp_path / backup.name, tmp_path / "cut.json"
    kept.write_bytes(backup.read_bytes())
    one.page.click("#clear")
    one.page.click("#clear")
    one.wait("document.body?.dataset.screen === 'start'")
    assert one.page.text("#progress").startswith("Nothing is answered yet")
    for change, words in [
        ({"reviewer": "bob"}, "it belongs to the reviewer bob"),
        ({"packet": "other"}, "it belongs to another packet"),
        ({"rows": [{"image_uuid": "x", "label": None, "confidence": None}]}, "not in this packet"),
        ({"rows": [{"image_uuid": "img-0", "label": "akne", "confidence": None}]}, '"akne"'),
    ]:
        cut.write_text(json.dumps(json.loads(kept.read_text()) | change))
        assert words in one.load(cut) and "Nothing was changed" in one.page.text("#file-said")
    cut.write_bytes(kept.read_bytes()[:-20])
    assert "cut off or damaged" in one.load(cut)
    assert one.load(sheet).startswith("2 answers added")
    assert one.load(kept).startswith("1 answer added")  # the practice case, which no CSV holds
    assert "2 were here already" in one.page.text("#file-said")
    changed = tmp_path / "changed.csv"
    changed.write_text(sheet.read_text("utf-8-sig").replace("tinea", "acne").replace(",", ";"))
    assert "1 differ from what is here, and what is here was kept" in one.load(changed)
    assert one.key("Enter") == "img-2"
    assert [row[3] for row in one.exported()[1:]] == ["tinea", "urticaria", "", ""]


def test_a_browser_that_keeps_nothing_is_noticed_and_said(desk: Callable[..., Desk]) -> None:
    one = desk(3)
    script = one.page.call(
        "Page.addScriptToEvaluateOnNewDocument",
        source="Storage.prototype.setItem = () => { throw new Error('full'); };",
    )
    try:
        one.open()
        assert "download a backup before you close it" in one.page.text("#warning")
        one.page.press("Enter")
        one.shown()
        one.answer("ac")
        assert "Not kept by this browser" in one.page.text("#said")
        leave = "!dispatchEvent(new Event('beforeunload', {cancelable: true}))"
        assert one.page.read(leave)
        assert one.exported()[1][3] == "acne"
        assert not one.page.read(leave)  # what is in a file is safe
    finally:
        one.page.call("Page.removeScriptToEvaluateOnNewDocument", **script)


def test_what_was_cleared_under_the_page_is_kept_again(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.start()
    one.answer("ac")
    one.page.read("localStorage.clear()")
    one.answer("tin")
    assert "had been cleared; all of them are kept again" in one.page.text("#said")
    one.open()
    assert one.page.text("#progress").startswith("2 of 6")


def test_a_second_window_is_refused_until_it_is_given_the_packet(desk: Callable[..., Desk]) -> None:
    one = desk()
    one.start()
    one.answer("ac")
    second = Desk(one.page.tab(), one.folder)
    try:
        second.open()
        assert second.screen() == "stopped"
        second.page.press("Enter")
        second.wait("document.body?.dataset.screen === 'start'")
        assert second.page.text("#progress").startswith("1 of 6")
        assert one.screen() == "stopped"
    finally:
        second.page.close()
        one.page.call("Page.bringToFront")


def test_names_that_look_like_code_stay_names(desk: Callable[..., Desk]) -> None:
    evil = "</script><img src=x onerror=document.title='bad'>\u2028\"'"
    ids = ["__proto__", "constructor", evil.replace("\u2028", ""), 'a,"b"', "=1+1"]
    one = desk(ids=ids, shown={"__proto__": evil}, classes=[ReviewClass("acne" + evil, evil)])
    one.start()
    assert one.page.text("#facts") == f"  proto  : {evil}"
    one.page.press("?")
    assert one.page.text("#found small") == evil
    one.page.press("Escape")
    for _ in ids:
        one.answer("acne")
    rows = one.exported()
    assert [row[0] for row in rows[1:]] == ids
    assert {row[3] for row in rows[1:]} == {"acne" + evil}
    assert one.page.read("document.title") == "Image review" and one.page.problems == []
    # the policy is in force: what was not there when the page was written does not run
    one.page.read(
        "(() => { const e = document.createElement('script'); e.textContent = 'window.bad = 1';"
        "document.body.append(e); })()"
    )
    assert one.page.read("window.bad === undefined")


def test_the_next_three_are_there_before_they_are_asked_for_and_few_are_kept(
    desk: Callable[..., Desk],
) -> None:
    one = desk(12)
    one.start()
    for at in range(12):
        ahead = [f"images/{i:03d}.jpg" for i in range(at, min(at + 4, 12))]
        image = "document.querySelector(`#stage img[src='${path}']`)"
        one.wait(f"{json.dumps(ahead)}.every((path) => {image}?.complete)")
        assert one.page.read("document.querySelectorAll('#stage img').length") <= 5
        asked = [url for url in one.page.requests if "/images/" in url]
        assert len(set(asked)) == min(at + 4, 12)
        one.answer("ac")


def test_an_image_that_is_missing_can_be_left_and_has_no_answer(desk: Callable[..., Desk]) -> None:
    one = desk(3)
    (one.folder / "images" / "001.jpg").unlink()
    one.start()
    one.answer("ac")
    assert "cannot be shown (images/001.jpg)" in one.page.text("#note")
    one.page.press("1")
    assert one.shown() == "img-1"
    assert one.key("ArrowRight") == "img-2"
    one.answer("tin")
    assert one.screen() == "end" and "could not be shown" in one.page.text("#end-words")
    assert [row[3] for row in one.exported()[1:]] == ["acne", "", "tinea"]


def test_a_page_without_its_files_says_to_unzip_the_folder(desk: Callable[..., Desk]) -> None:
    one = desk()
    (one.folder / "packet.js").unlink()
    one.open()
    assert one.screen() == "broken" and "Unzip the whole folder" in one.page.text("#broken")


def test_zoom_keeps_what_lies_under_the_pointer_and_time_stops_in_a_pause(
    desk: Callable[..., Desk],
) -> None:
    one = desk()
    one.start()
    place = (
        "(() => { const r = document.querySelector('#stage img.current').getBoundingClientRect();"
    )
    middle = place + "return [r.left + r.width / 2, r.top + r.height / 2, r.width]; })()"
    x, y, width = one.page.read(middle)
    one.page.wheel("#stage", -500)
    zoomed = one.page.read(middle)
    assert zoomed[2] > 2 * width and zoomed[:2] == pytest.approx([x, y], abs=3)
    one.page.press("0")
    assert one.page.read(middle) == [x, y, width]
    one.page.call("Input.dispatchKeyEvent", type="keyDown", key=" ", windowsVirtualKeyCode=32)
    assert one.page.read(middle)[2] > 1.9 * width
    one.page.call("Input.dispatchKeyEvent", type="keyUp", key=" ", windowsVirtualKeyCode=32)
    assert one.page.read(middle) == [x, y, width]
    one.page.press(".")
    time.sleep(0.5)
    one.page.press("Enter")
    one.shown()
    one.answer("ac")
    one.page.press(".")
    timing = json.loads(
        one.file("_timing.json", lambda: one.page.click("#save-timing")).read_text()
    )
    assert timing["presentations"][0]["ms"] < 450 and timing["presentations"][1]["ms"] is None


def check_boxes(page: browser.Page, size: tuple[int, int]) -> None:
    boxes = page.read(
        "['counter', 'answer', 'words', 'pace', 'pause-open', 'recents', 'stage'].map((id) => "
        "{ const e = document.getElementById(id), r = e.getBoundingClientRect();"
        " const more = id === 'counter' ? e.scrollWidth - e.clientWidth : 0;"
        " return [id, r.left, r.top, r.right + more, r.bottom]; })"
    )
    for i, (_, left, top, right, bottom) in enumerate(boxes):
        assert left >= 0 and top >= 0 and right <= size[0] and bottom <= size[1], boxes[i]
        for _, other_left, other_top, other_right, other_bottom in boxes[:i]:
            apart = left >= other_right - 1 or right <= other_left + 1
            assert apart or top >= other_bottom - 1 or bottom <= other_top + 1, boxes
    assert boxes[-1][4] - boxes[-1][2] > 0.75 * size[1]  # the image has the screen


@pytest.mark.parametrize("size", [(1024, 576), (1280, 720)], ids=["laptop_at_125", "720p"])
def test_nothing_overlaps_or_leaves_a_small_window(
    desk: Callable[..., Desk], size: tuple[int, int]
) -> None:
    long = [f"post inflammatory hyperpigmentation of kind {c}" for c in "abcdefghi"]
    one = desk(9, 3, classes=[ReviewClass(name) for name in long], shown={"age": "34"})
    one.page.resize(*size)
    try:
        one.start()
        check_boxes(one.page, size)  # "practice 1 of 3", and the keys are told
        for name in long:
            if one.screen() == "between":
                one.key("Enter")
            one.answer(name)
        one.key("Backspace")
        check_boxes(one.page, size)
        one.page.press("?")
        check_boxes(one.page, size)
        one.page.press("Escape")
    finally:
        one.page.resize(1280, 720)


@pytest.mark.skipif(firefox.found() is None, reason="no Firefox on PATH")
def test_firefox_types_keeps_refuses_a_second_tab_and_exports(image: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "packet"
    write_packet(folder, image, 4, 1, packet="f1ref0x0")
    seen = "document.body.dataset.screen === 'review' && document.body.dataset.shown"
    with firefox.opened(tmp_path / "profile", folder) as tab:
        tab.open(folder / "index.html")
        tab.until("document.body.dataset.screen === 'start'")
        tab.press("Enter")
        tab.until(f"{seen} === 'practice-0'")
        tab.press(*"con", "Enter")
        tab.until("document.body.dataset.screen === 'between'")
        tab.press("Enter")
        tab.until(f"{seen} === 'img-0'")
        tab.press("+", "1")  # a class of the practice
        tab.until(f"{seen} === 'img-1'")
        tab.press(*"url", "Backspace", "Enter")
        tab.until(f"{seen} === 'img-2'")
        tab.until("document.querySelectorAll('#stage img').length === 3")  # one behind, one ahead
        tab.new_tab()
        tab.open(folder / "index.html")
        tab.until("document.body.dataset.screen === 'stopped'")
        tab.press("Enter")
        tab.until("document.body.dataset.screen === 'start'")
        assert tab.text("#progress").startswith("2 of 4 answered")
        tab.press("Enter")
        tab.until(f"{seen} === 'img-2'")
        tab.press("n", "Enter")
        tab.until(f"{seen} === 'img-3'")
        tab.press("s", control=True)
        path = folder / "review_f1ref0x0_ann.csv"
        end = time.monotonic() + 20
        while not (path.exists() and path.stat().st_size):
            assert time.monotonic() < end, "nothing was downloaded"
            time.sleep(0.01)
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
    assert [row[3:5] for row in rows[1:]] == [
        ["contact_dermatitis", "0.9"],
        ["urticaria", ""],
        ["not_usable", ""],
        ["", ""],
    ]
