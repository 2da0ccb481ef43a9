"""``checkpoints.toml``: what is read, and that every fault names entry, key and mend."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.scorecard import checkpoints as module
from dagster_project.lib.scorecard.checkpoints import Checkpoint, Checkpoints, read_checkpoints
from dagster_project.lib.scorecard.rule import Margins, Rule

WHOLE = """
[rule]
recall_drop = 0.2
min_df = 6
[rule.margins]
top1 = 0.02
nll = 1

[[checkpoint]]
name = "focal"
model = "candidates/focal"
changed = ["sampler=class", "focal_loss"]
seed = 3

[[checkpoint]]
name = "again_2"
model = "s3://bucket/models/again/"
baseline = true
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "checkpoints.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def entry(**keys: str) -> str:
    """One entry; values are TOML."""
    given = {"name": '"focal"', "model": '"f"', **keys}
    return "[[checkpoint]]\n" + "".join(f"{key} = {value}\n" for key, value in given.items())


def test_a_whole_file_is_read_in_its_order_with_folders_relative_to_it(tmp_path: Path) -> None:
    found = read_checkpoints(write(tmp_path, WHOLE))
    assert found == Checkpoints(
        (
            Checkpoint(
                "focal", str(tmp_path / "candidates/focal"), ("focal_loss", "sampler=class"), 3
            ),
            Checkpoint("again_2", "s3://bucket/models/again/", baseline=True),
        ),
        Rule(recall_drop=0.2, min_df=6, margins=Margins(top1=0.02, nll=1)),
    )
    assert found.baseline == "again_2"
    assert found.recipe_of("focal") == ("focal_loss", "sampler=class")
    assert found.recipe_of("again_2") == ()
    assert found.recipe_of("deployed") is None
    assert found.recipe_of("stranger") is None


@pytest.mark.parametrize(
    "text", ["", "# none yet\n", "\n[rule]\n"], ids=["empty", "comment", "rule"]
)
def test_without_an_entry_the_model_in_service_is_the_baseline(tmp_path: Path, text: str) -> None:
    found = read_checkpoints(write(tmp_path, text))
    assert (found.entries, found.rule, found.baseline) == ((), Rule(), "deployed")
    assert found.recipe_of("deployed") == ()


def test_an_absolute_folder_stays_and_a_relative_file_is_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, entry(model='"/models/f"') + entry(name='"b"', model='"here"'))
    monkeypatch.chdir(tmp_path)
    found = read_checkpoints(Path("checkpoints.toml"))
    assert [one.model for one in found.entries] == ["/models/f", str(tmp_path / "here")]


TWO = entry(seed="1", changed='["a"]')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("name =", "checkpoints.toml: not TOML", id="no_toml"),
        pytest.param("a = " + "[" * 5000, "checkpoints.toml: not TOML", id="deep"),
        pytest.param("a = " + "9" * 5000, "checkpoints.toml: not TOML", id="long_number"),
        pytest.param(b'name = "\xff"', "not UTF-8; save it as UTF-8 text", id="latin"),
        pytest.param(b"\xff\xfen\x00", "not UTF-8", id="utf16"),
        pytest.param('a = "\x00"', "not TOML", id="nul"),
        pytest.param("#" * (module.MAX_BYTES + 1), "more than 1048576 bytes", id="huge"),
        pytest.param(
            '[[checkpoints]]\nname = "a"',
            "unknown key 'checkpoints'; known are rule, checkpoint. did you mean checkpoint",
            id="plural",
        ),
        pytest.param(
            '[checkpoint]\nname = "a"', r"key checkpoint: .*\[\[checkpoint\]\]", id="table"
        ),
        pytest.param("checkpoint = [1]", "checkpoint 1: expected a table", id="number"),
        pytest.param(entry() * 101, "101 checkpoints; at most 100. Retire", id="many"),
        pytest.param(entry(levers="[]"), r"checkpoint 1 \(focal\): unknown key 'levers'", id="key"),
        pytest.param(
            '[[checkpoint]]\nmodel = "f"', "checkpoint 1, key name: none given", id="no_name"
        ),
        *(
            pytest.param(entry(name=name), r"checkpoint 1, key name: got .*a small letter", id=kind)
            for kind, name in {
                "capital": '"Focal"',
                "digit_first": '"2focal"',
                "slash": '"a/b"',
                "dots": '".."',
                "empty": '""',
                "line": '"a\\nb"',
                "newline_at_the_end": '"a\\n"',
                "cyrillic_a": '"f\u043ecal"',
                "shell": '"$(id)"',
                "long": f'"{"a" * 61}"',
            }.items()
        ),
        pytest.param(entry(name="7"), "key name: got 7; expected a text", id="name_number"),
        pytest.param(entry(name='"deployed"'), "the model in service, which needs", id="deployed"),
        pytest.param(
            entry() + entry(model='"g"'),
            r"checkpoint 2 \(focal\), key name: an entry before it",
            id="name_twice",
        ),
        pytest.param('[[checkpoint]]\nname="a"', r"\(a\), key model: none given", id="no_model"),
        pytest.param(entry(model='""'), "key model: got ''; give s3://", id="empty_model"),
        pytest.param(entry(model='"s3://"'), "key model: got 's3://'", id="no_bucket"),
        pytest.param(entry(model='"http://h/m"'), "key model: got 'http://h/m'", id="http"),
        pytest.param(entry(model='"a\\u0000b"'), "key model: got", id="nul_in_model"),
        pytest.param(
            entry() + entry(name='"b"', model='"./f"'),
            "is that of focal; keep one",
            id="model_twice",
        ),
        pytest.param(
            entry() + entry(name='"b"', model='"g/../f/"'),
            "is that of focal; keep one",
            id="model_by_another_way",
        ),
        pytest.param(
            entry(model='"s3://b/x"') + entry(name='"b"', model='"s3://b/x/"'),
            "is that of focal; keep one",
            id="prefix_twice",
        ),
        pytest.param(entry(changed='"a"'), "key changed: got 'a'; expected a list", id="no_list"),
        pytest.param(entry(changed="[1]"), "key changed: got 1; a lever is", id="lever_number"),
        pytest.param(entry(changed='["a|b"]'), r"got 'a\|b'; a lever is", id="lever_pipe"),
        pytest.param(entry(changed='["a", "a"]'), "'a' more than once", id="lever_twice"),
        pytest.param(entry(seed="true"), "key seed: got True; expected a whole", id="seed_bool"),
        pytest.param(entry(seed="1.0"), "key seed: got 1.0; expected a whole", id="seed_float"),
        pytest.param(entry(seed="-1"), "key seed: got -1; from 0", id="seed_negative"),
        pytest.param(entry(seed="9" * 4000), "got a number beyond 64 bits", id="seed_long"),
        pytest.param(
            TWO + entry(name='"b"', model='"g"', seed="1", changed='["a"]'),
            r"\(b\), key seed: focal is a run of the same levers with seed 1",
            id="run_twice",
        ),
        pytest.param(entry(baseline='"yes"'), "key baseline: got 'yes'; expected true", id="yes"),
        pytest.param(
            entry(baseline="true") + entry(name='"b"', model='"g"', baseline="true"),
            "key baseline: focal is the baseline already",
            id="two_baselines",
        ),
        pytest.param(
            entry(baseline="true", changed='["a"]'),
            "key changed: the baseline lists 'a'",
            id="lever_of_it",
        ),
        pytest.param("rule = 3", r"rule: got 3; head it with \[rule\]", id="rule_number"),
        pytest.param("[rule]\nrecal_drop = 0.1", "did you mean recall_drop", id="rule_key"),
        pytest.param(
            "[rule]\nmargins = 1", r"head them with \[rule.margins\]", id="margins_number"
        ),
        pytest.param("[rule.margins]\nf1 = 1", "rule.margins: unknown key 'f1'", id="margins_key"),
        pytest.param(
            "[rule]\nalpha = 0.7", "rule, key alpha: got 0.7; .*less than 0.5", id="alpha"
        ),
        pytest.param('[rule]\nalpha = "0.01"', "key alpha: got '0.01'", id="alpha_text"),
        pytest.param("[rule]\nmin_df = true", "key min_df: got True", id="df_bool"),
        pytest.param("[rule.margins]\nbrier = inf", "key brier: got inf", id="inf"),
        pytest.param("[rule]\nsingle_run_sd = nan", "key single_run_sd: got nan", id="nan"),
        pytest.param("[rule.margins]\nrecall = 2", "key margins.recall: got 2", id="margin_range"),
    ],
)
def test_a_fault_is_one_line_that_names_its_place_and_the_mend(
    tmp_path: Path, text: str | bytes, says: str
) -> None:
    with pytest.raises(InputError, match=says) as caught:
        read_checkpoints(write(tmp_path, text))
    message = str(caught.value)
    assert "checkpoints.toml" in message
    assert message.isprintable()
    assert len(message) < 400


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("absent.toml", "pipe", "."):
        with pytest.raises(InputError, match="no such file; expected a list of checkpoints"):
            read_checkpoints(tmp_path / name)


def test_a_run_of_the_same_levers_needs_no_seed_but_not_the_same_one(tmp_path: Path) -> None:
    other = [
        entry(name='"b"', model='"g"', changed='["a"]'),
        entry(name='"c"', model='"h"', seed="1"),
    ]
    found = read_checkpoints(write(tmp_path, TWO + "".join(other)))
    assert [one.seed for one in found.entries] == [1, None, 1]
