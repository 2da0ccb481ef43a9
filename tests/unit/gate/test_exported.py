"""A model exported with its gate says what the gate says, and keeps nothing it should not."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dagster_project.lib.errors import InputError, RefusedError
from dagster_project.lib.files import canonical_json, sha256_bytes
from dagster_project.lib.gate import bundle, exported
from dagster_project.lib.gate.apply import apply_gate
from dagster_project.lib.gate.bundle import Bundle
from dagster_project.lib.gate.config import Gauge

NAN = float("nan")


def bundle_of(
    tau: float = 0.1, train: float | None = 0.3, *, accept: str = "high", magnitude: str = "abs"
) -> Bundle:
    gauge = Gauge(head="q", magnitude=magnitude, normalisation="none", accept=accept)
    config = {"gauge": gauge.model_dump(), "relabel": None, "freeze": "safety_first"}
    nothing: dict[str, Any] = {
        "bounds": {}, "calibration": {}, "evaluation": {}, "no_gray_zone": None
    }  # fmt: skip
    made = {
        "format": "tier-refit gate",
        "schema_version": 1,
        "tau_infer": tau,
        "tau_train": train,
        "use_gap": train is not None,
        "gauge": gauge.model_dump(),
        "identity": {},
        "relabel": None,
        "point": {"name": "safety_first", "rule": {}, "certified": True, **nothing},
        "terms": {},
        "split": {"method": "by hand"},
        "scores": {"sha256": None, "rows": 1, "dtype": "float32"},
        "config": config,
        "config_sha256": sha256_bytes(canonical_json(config).encode()),
        "code": {"version": None, "commit": None, "dirty": None},
        "packages": {},
        "files": {},
    }
    return bundle.parse_bundle({**made, "content_sha256": bundle.content_sha256(made)})


class Rational(torch.nn.Module):
    """P and |Q|, as a head that divides has them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.p, self.q = torch.nn.Linear(3, 2), torch.nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.p(x), self.q(x).abs().squeeze(-1)


class Given(torch.nn.Module):
    """The score is the input."""

    def forward(self, score: torch.Tensor) -> torch.Tensor:
        return score * 1


def loaded(path: Path) -> tuple[Callable[..., dict[str, torch.Tensor]], str]:
    extra = {"metadata.json": ""}
    program = torch.export.load(path, extra_files=extra)
    return program.module(), extra["metadata.json"]


def rows(n: int, seed: int = 0) -> torch.Tensor:
    found = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    found[0, 0] = NAN
    return found


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    counts = exported.export(
        Rational().eval(), bundle_of(), [(rows(8),), (rows(300, seed=1),)], path
    )
    return path, counts


def test_what_was_exported_answers_as_the_module_and_its_gate(
    published: tuple[Path, dict[str, int]],
) -> None:
    program, text = loaded(published[0])
    assert bundle.parse_bundle(json.loads(text)) == bundle_of()
    for n in (1, 2, 77):
        x = rows(n, seed=n)
        found = program(x)
        answer, score = Rational()(x)
        wanted = apply_gate(score.detach().numpy(), json.loads(text))
        assert wanted.bottom_mask[0]
        for key in exported.MASKS:
            assert np.array_equal(found[key].numpy(), getattr(wanted, key))
        assert found["answer"].isnan().all(dim=1).tolist() == wanted.bottom_mask.tolist()
        kept = torch.from_numpy(wanted.accepted)
        torch.testing.assert_close(found["answer"][kept], answer[kept])


def test_the_rows_that_were_checked_are_counted(published: tuple[Path, dict[str, int]]) -> None:
    scores = torch.cat([Rational()(x)[1] for x in (rows(8), rows(300, seed=1))])
    wanted = apply_gate(scores.detach().numpy(), bundle_of())
    assert published[1] == {
        "rows": 308,
        "accepted": int(wanted.accepted.sum()),
        "gap": int(wanted.gap_mask.sum()),
        "fault": 2,
    }


def test_no_example_and_no_path_of_this_machine_is_in_the_file(
    published: tuple[Path, dict[str, int]],
) -> None:
    with zipfile.ZipFile(published[0]) as archive:
        everything = {name: archive.read(name) for name in archive.namelist()}
        (inputs,) = (data for name, data in everything.items() if "sample_inputs" in name)
    kept, _ = torch.load(io.BytesIO(inputs), weights_only=True)
    assert not any(part.any() for part in kept)
    joined = b"".join(everything.values())
    assert b"site-packages" not in joined
    assert str(Path(__file__).parents[3]).encode() not in joined


def test_the_same_module_and_bundle_give_the_same_bytes(
    published: tuple[Path, dict[str, int]], tmp_path: Path
) -> None:
    exported.export(Rational().eval(), bundle_of(), [(rows(8, seed=5),)], tmp_path / "again.pt2")
    assert (tmp_path / "again.pt2").read_bytes() == published[0].read_bytes()


@pytest.mark.parametrize("accept", ["high", "low"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_attached_it_compares_in_float64_at_every_tie(dtype: torch.dtype, accept: str) -> None:
    tau, train = (0.1, 0.3) if accept == "high" else (0.3, 0.1)
    made = bundle_of(tau, train, accept=accept)
    points = [0.0, 0.05, 0.1, 0.2, 0.3, 0.9, NAN, float("inf")]
    close = [np.nextafter(value, side) for value in (0.1, 0.3) for side in (0, 1)]
    score = torch.tensor([*points, *close], dtype=torch.float64).to(dtype)
    found = exported.attach(Given(), made)(score)
    wanted = apply_gate(score.to(torch.float64).numpy(), made)
    for key in exported.MASKS:
        assert np.array_equal(found[key].numpy(), getattr(wanted, key)), key


def test_neither_half_nor_other_weights_change_the_threshold() -> None:
    tau = float(np.nextafter(0.1, 1))
    gated = exported.attach(Given(), bundle_of(tau, None)).half()
    assert not [*gated.state_dict()]
    found = gated(torch.tensor([0.1, tau], dtype=torch.float64))
    assert found["accepted"].tolist() == [False, True]
    assert not found["gap_mask"].any()


def test_a_negative_magnitude_is_a_fault_in_the_graph_and_refused_in_examples(
    tmp_path: Path,
) -> None:
    made = bundle_of(0.3, None, accept="low")  # would accept it
    score = torch.tensor([-0.2, 0.2])
    assert exported.attach(Given(), made)(score)["provenance"].tolist() == [1, 0]
    with pytest.raises(InputError, match=r"module, example 0: scores below 0.*absolute"):
        exported.export(Given().eval(), made, [(score,)], tmp_path / "model.pt2")
    assert not [*tmp_path.iterdir()]


def test_an_answer_that_is_not_finite_is_a_fault() -> None:
    class Both(torch.nn.Module):
        def forward(
            self, answer: torch.Tensor, score: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return answer, score

    answer = torch.tensor([[1.0, 2.0], [NAN, 2.0], [1.0, float("inf")], [1.0, 2.0]])
    found = exported.attach(Both(), bundle_of())(answer, torch.tensor([0.5, 0.5, 0.0, 0.0]))
    assert found["provenance"].tolist() == [0, 1, 3, 2]
    assert found["answer"].isnan().all(dim=1).tolist() == [False, True, True, True]


class Otherwise(torch.nn.Module):
    """Says something else once it is exported."""

    def forward(self, score: torch.Tensor) -> torch.Tensor:
        return score + 0.25 if torch.compiler.is_exporting() else score * 1


def test_an_export_that_says_something_else_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="example 0: score of the exported module"):
        exported.export(Otherwise().eval(), bundle_of(), [(torch.rand(4),)], tmp_path / "model.pt2")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("mask", exported.MASKS)
def test_a_mask_of_the_graph_that_is_not_the_gate_s_is_not_published(
    mask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = exported.attach

    def wrong(module: torch.nn.Module, made: Bundle) -> torch.nn.Module:
        class Wrong(torch.nn.Module):
            def forward(self, *args: torch.Tensor) -> dict[str, torch.Tensor]:
                found = right(module, made)(*args)
                return {**found, mask: torch.zeros_like(found[mask])}

        return Wrong().eval()

    monkeypatch.setattr(exported, "attach", wrong)
    score = torch.tensor([0.05, 0.2, 0.5])
    with pytest.raises(RefusedError, match=f"example 0: {mask} of the exported"):
        exported.export(Given().eval(), bundle_of(), [(score,)], tmp_path / "model.pt2")


class Returns(torch.nn.Module):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, _: torch.Tensor) -> Any:
        return self.value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        pytest.param(torch.tensor([1, 2]), "score is torch.int64", id="whole numbers"),
        pytest.param((torch.tensor([1, 2]), torch.rand(2)), "answer is torch.int64", id="classes"),
        pytest.param((torch.rand(2), torch.rand(2, 1)), "1 dimensions and a score of 2", id="dims"),
        pytest.param((torch.rand(2),) * 3, "score is tuple", id="three"),
        pytest.param({"score": torch.rand(2)}, "score is dict", id="dict"),
    ],
)
def test_a_module_that_returns_something_else_is_refused(value: Any, told: str) -> None:
    with pytest.raises(InputError, match=told):
        exported.attach(Returns(value), bundle_of())(torch.rand(2))


@pytest.mark.parametrize(
    ("module", "examples", "told"),
    [
        pytest.param(Given(), [(torch.rand(4),)], "training mode", id="training"),
        pytest.param(Given().eval(), [], "tuples of tensors", id="none"),
        pytest.param(Given().eval(), [(0.5,)], "tuples of tensors", id="numbers"),
        pytest.param(Given().eval(), [(torch.rand(()),)], "batch dimension", id="no batch"),
        pytest.param(Given().eval(), [(torch.rand(1),)], "two or more", id="one row"),
        pytest.param(
            Given().eval(), [(torch.rand(3), torch.rand(4))], "same number", id="two batches"
        ),
    ],
)
def test_what_cannot_be_exported_is_refused_first(
    module: torch.nn.Module, examples: Any, told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        exported.export(module, bundle_of(), examples, tmp_path / "model.pt2")


def test_a_module_of_another_gauge_is_refused(tmp_path: Path) -> None:
    other = Gauge(head="q", magnitude="abs", normalisation="layer")
    with pytest.raises(InputError, match="different gauges"):
        exported.export(
            Given().eval(), bundle_of(), [(torch.rand(4),)], tmp_path / "x.pt2", gauge=other
        )
