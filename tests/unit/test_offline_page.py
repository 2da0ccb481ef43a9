from __future__ import annotations

import json

from dagster_project.lib.offline_page import script_json, security_policy


def test_json_cannot_leave_its_element_or_its_line() -> None:
    value = {"a": "</script>&\u2028\n"}
    assert json.loads(script_json(value)) == value
    assert not set("<>&\u2028\n") & set(script_json(value))


def test_a_policy_allows_one_style_and_one_script_and_files_beside_only_when_asked() -> None:
    alone = security_policy("a", "b")
    assert alone != security_policy("a", "c") != security_policy("x", "c")
    assert "default-src 'none'" in alone and "self" not in alone and "unsafe" not in alone
    beside = security_policy("a", "b", files_beside=True)
    assert "img-src 'self'" in beside and beside.count("'self'") == 2
