"""What a device is asked before the first image: real answers of cards and wheels, as data."""

from __future__ import annotations

import pytest

from dagster_project.lib.errors import InputError
from dagster_project.lib.inference import device, gpu_lease

CU130 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


@pytest.mark.parametrize(
    ("capability", "archs", "usable"),
    [
        pytest.param((9, 0), CU130, True, id="H100"),
        pytest.param((8, 9), CU130, True, id="a later minor of a built major"),
        pytest.param((12, 1), CU130, True, id="a later minor, or translated"),
        pytest.param((13, 0), CU130, True, id="a newer card, by translation"),
        pytest.param((6, 1), CU130, False, id="1080 Ti on CUDA 13"),
        pytest.param((6, 1), CU126, True, id="1080 Ti on cu126"),
        pytest.param((5, 2), CU126, True, id="TITAN X on cu126"),
        pytest.param((7, 2), ["sm_75"], False, id="an earlier minor"),
        pytest.param((10, 0), CU126, False, id="a newer card without translation"),
        pytest.param((9, 0), ["sm_90a"], True, id="an architecture with a suffix"),
        pytest.param((9, 0), [], False, id="a build without GPUs"),
        pytest.param((9, 0), ["gfx90a"], False, id="not an architecture of NVIDIA"),
    ],
)
def test_a_wheel_fits_a_card_or_the_mend_is_named(
    capability: tuple[int, int], archs: list[str], usable: bool
) -> None:
    reason = device.why_unusable("some card", capability, archs, "2.13.0")
    assert (reason is None) == usable
    if reason:
        assert f"compute capability {capability[0]}.{capability[1]}" in reason
        assert ("cu126" in reason) == (capability < (7, 5))
        assert "device cpu" in reason


@pytest.mark.parametrize(
    ("capability", "dtype", "usable"),
    [
        pytest.param((6, 1), "float32", True, id="float32 anywhere"),
        pytest.param((6, 1), "bfloat16", False, id="bfloat16 on Pascal"),
        pytest.param((7, 5), "tf32", False, id="tf32 on Turing"),
        pytest.param((7, 5), "float16", True, id="float16 on Turing"),
        pytest.param((8, 0), "bfloat16", True, id="bfloat16 on Ampere"),
    ],
)
def test_arithmetic_that_a_card_has_not_is_refused(
    capability: tuple[int, int], dtype: str, usable: bool
) -> None:
    assert (device.why_dtype_unusable("card", capability, dtype) is None) == usable


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    import torch

    monkeypatch.setattr(gpu_lease, "_torch_has_cuda", lambda: True)
    monkeypatch.setattr(gpu_lease, "visible_gpus", lambda: ["GPU-test"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA test card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: CU130)


def test_a_card_that_this_torch_cannot_use_is_an_error_where_a_gpu_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_gpu(monkeypatch, (6, 1))
    message = r"device cuda: NVIDIA test card has compute capability 6.1, .*cu126 build"
    with pytest.raises(InputError, match=message), gpu_lease.lease_device("cuda"):
        pass


def test_auto_says_why_the_gpu_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend_gpu(monkeypatch, (7, 5))
    with gpu_lease.lease_device("auto") as used:
        assert used == "cuda"
    assert caplog.text == ""
    with gpu_lease.lease_device("auto", "bfloat16") as used:
        assert used == "cpu"
    assert "the GPU is not used: NVIDIA test card (compute capability 7.5)" in caplog.text


def test_a_cpu_has_a_name_and_a_peak() -> None:
    assert device.name_of("cpu")
    assert device.peak_bytes("cpu") > 10_000_000
