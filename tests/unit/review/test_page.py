"""What ``write_page`` refuses, and the bytes it writes; the page itself is driven in a browser."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dagster_project.lib.demo.classes import CLASSES
from dagster_project.lib.errors import InputError
from dagster_project.lib.review.page import (
    PageContent,
    Presentation,
    ReviewClass,
    folded,
    write_page,
)

ONE = Presentation("img-1", "images/1.jpg")
CONTENT = PageContent("0123456789abcdef", "ann", tuple(map(ReviewClass, CLASSES)), (ONE,))


def classes(*names: str) -> PageContent:
    return replace(CONTENT, classes=tuple(map(ReviewClass, names)))


def presentations(*more: Presentation) -> PageContent:
    return replace(CONTENT, presentations=(ONE, *more))


def packet(folder: Path) -> dict[str, Any]:
    text = (folder / "packet.js").read_text()
    value: dict[str, Any] = json.loads(text.removeprefix("window.REVIEW_PACKET = ")[:-2])
    return value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(classes("U"), r"class 'U' collides with the key u \(unsure\)", id="u"),
        pytest.param(classes("n."), r"'n\.' collides with the key n \(not_usable\)", id="n"),
        pytest.param(classes("Unsure"), "'Unsure' is typed like 'unsure'", id="unsure"),
        pytest.param(classes("not-usable"), "is typed like 'not_usable'", id="not_usable"),
        pytest.param(classes("Ödem", "ODEM"), "'ODEM' is typed like 'Ödem'", id="same_letters"),
        pytest.param(classes("a_b", "a b"), "'a b' is typed like 'a_b'", id="underscore"),
        pytest.param(classes("2nd degree burn"), "begins with the key 2", id="digit"),
        pytest.param(classes("-²nd"), "begins with the key 2", id="digit_in_disguise"),
        pytest.param(classes("???"), "no letter or digit to type", id="signs_only"),
        pytest.param(classes(), "at least one", id="no_class"),
        pytest.param(presentations(ONE), "image_uuid 'img-1' is there twice", id="twice"),
        pytest.param(
            presentations(replace(ONE, image_uuid="p", practice=True)),
            "put them first",
            id="practice_late",
        ),
        pytest.param(
            replace(CONTENT, presentations=(replace(ONE, practice=True),)),
            "at least one presentation must count",
            id="practice_only",
        ),
        pytest.param(
            presentations(Presentation("b ", "b.jpg")), "would not keep", id="blank_in_id"
        ),
        pytest.param(
            presentations(Presentation("a\nb", "b.jpg")), "would not keep", id="line_in_id"
        ),
        *(
            pytest.param(presentations(Presentation("b", path)), "relative path", id=path or "none")
            for path in ("", "/etc/x.jpg", "../x.jpg", "http://x/y.jpg", "a\\b.jpg")
        ),
        pytest.param(replace(CONTENT, reviewer="a/b"), "becomes a file name", id="reviewer"),
        pytest.param(replace(CONTENT, packet="../x"), "of a hash", id="packet"),
        pytest.param(replace(CONTENT, gap_ms=-1), "gap_ms -1", id="gap"),
    ],
)
def test_what_could_not_be_typed_or_returned_is_refused_and_nothing_written(
    content: PageContent, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        write_page(tmp_path, content)
    assert list(tmp_path.iterdir()) == []


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"key u .*key n .*key 7.*; and 3 more"):
        write_page(tmp_path, classes("u", "n", "7", "8", "9", "?", "??", "???"))


def test_classes_that_only_begin_like_a_key_are_no_collision(tmp_path: Path) -> None:
    write_page(tmp_path, classes("urticaria", "nevus", "uns", "type 2 reaction", "皮膚炎"))
    assert [one["name"] for one in packet(tmp_path)["classes"]][:2] == ["urticaria", "nevus"]


def test_the_same_content_gives_the_same_bytes_and_the_page_is_the_same_for_all(
    tmp_path: Path,
) -> None:
    a, b, other = tmp_path / "a", tmp_path / "b", tmp_path / "other"
    write_page(a, CONTENT)
    write_page(b, replace(CONTENT, classes=list(CONTENT.classes)))
    write_page(other, replace(CONTENT, reviewer="bob"))
    for name in ("index.html", "packet.js"):
        assert (a / name).read_bytes() == (b / name).read_bytes()
    assert (a / "index.html").read_bytes() == (other / "index.html").read_bytes()
    assert (a / "packet.js").read_bytes() != (other / "packet.js").read_bytes()


def test_the_packet_holds_what_was_given_and_cannot_end_its_script(tmp_path: Path) -> None:
    evil = "</script><!--\u2028&\"'"
    shown = {"__proto__": evil}
    content = replace(
        CONTENT,
        classes=[ReviewClass(f"acne {evil}", evil)],
        presentations=[Presentation(evil[:-3] + "x", "images/1.jpg", shown=shown)],
    )
    with pytest.raises(InputError, match="would not keep"):  # a line separator in an id
        write_page(tmp_path, content)
    one = replace(content.presentations[0], image_uuid="</script>")
    write_page(tmp_path, replace(content, presentations=[one]))
    text = (tmp_path / "packet.js").read_bytes()
    assert not {b"<", b">", b"&", b"\xe2"} & {text[i : i + 1] for i in range(len(text))}
    assert text.count(b"\n") == 1
    assert packet(tmp_path) == {
        "packet": content.packet,
        "reviewer": "ann",
        "gap_ms": 40,
        "classes": [{"name": f"acne {evil}", "folded": "acne script", "description": evil}],
        "presentations": [
            {
                "id": "</script>",
                "path": "images/1.jpg",
                "practice": False,
                "shown": [["__proto__", evil]],
            }
        ],
    }


def test_nothing_may_be_loaded_but_what_lies_beside_the_page(tmp_path: Path) -> None:
    write_page(tmp_path, CONTENT)
    text = (tmp_path / "index.html").read_text()
    policy = text.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0]
    assert (
        "unsafe" not in policy and "http" not in policy and "default-src &#39;none&#39;" in policy
    )
    assert "http://" not in text and "https://" not in text


@pytest.mark.parametrize(
    ("name", "typed"),
    [("Contact_Dermatitis", "contact dermatitis"), ("Bowen's", "bowens"), ("İzmir ß", "izmir ß")],
)
def test_case_accents_and_signs_make_no_difference_to_what_is_typed(name: str, typed: str) -> None:
    assert folded(name) == typed == folded(typed)
