from __future__ import annotations

from typing import Any

import pytest
import torch

from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import precision


def settings() -> list[str]:
    backends: Any = torch.backends
    return [backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        pytest.param("float32", "ieee", id="float32 is float32, convolutions too"),
        pytest.param("tf32", "tf32", id="tf32"),
        pytest.param("bfloat16", "ieee", id="bfloat16"),
    ],
)
def test_arithmetic_is_what_its_name_says_and_is_put_back(name: str, wanted: str) -> None:
    before = settings()
    with precision.arithmetic(name):
        assert settings() == [wanted, wanted]
    assert settings() == before


def test_arithmetic_is_put_back_after_an_error() -> None:
    before = settings()
    with pytest.raises(ZeroDivisionError), precision.arithmetic("tf32"):
        raise ZeroDivisionError
    assert settings() == before


def test_short_names_are_accepted_and_others_refused() -> None:
    names = ["fp32", "tf32", "bf16", "fp16"]
    assert [precision.dtype_name(name) for name in names] == list(precision.DTYPES)
    stored = [precision.torch_dtype(name) for name in precision.DTYPES]
    assert stored == [torch.float32, torch.float32, torch.bfloat16, torch.float16]
    with pytest.raises(InputError, match="dtype: got 'fp8'; allowed are 'float32'"):
        precision.dtype_name("fp8")
