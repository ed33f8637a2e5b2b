from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.schema import ClassifyConfig, ConvertConfig
from pipeline.errors import DataError, WeightsError
from pipeline.runtime.progress import set_quiet
from pipeline.stages.classify import classify
from pipeline.stages.convert_masks import convert_masks

MakeProduct = Callable[..., Path]
QUICK = ClassifyConfig(backbone="mobilenet_v2", image_side=32, epochs=1)


def test_every_accuracy_has_its_interval_and_the_commonest_beside_it(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    result = classify(make_product({"crack": 5}, 5, 5), tmp_path / "run", QUICK, device="cpu")
    assert result.trained_on + result.tested_on == 15
    assert result.tested_on == 3  # a fifth of 10 good and of 5 cracked
    low, high = result.accuracy_interval
    assert low <= result.accuracy <= high
    assert result.accuracy_of_commonest == pytest.approx(2 / 3, abs=1e-4)
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "card.json", "confusion.png", "manifest.jsonl", "model.safetensors", "run.json",
    }  # fmt: skip


def test_images_of_one_category_teach_nothing_and_are_refused(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="training images of one category alone, good; add images"):
        classify(make_product({}, 5, 5), tmp_path / "run", QUICK, device="cpu")


@pytest.mark.slow
def test_a_test_on_one_category_says_so(
    make_product: MakeProduct, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of ten good images some are held out, the one cracked image is not."""
    set_quiet(False)
    classify(make_product({"crack": 1}, 8, 2), tmp_path / "run", QUICK, device="cpu")
    assert "all test images are good: the accuracy says nothing" in capsys.readouterr().err


@pytest.mark.slow
def test_it_is_tested_on_the_images_that_the_split_holds_out(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    product = make_product({"crack": 5})
    splits = convert_masks([product], tmp_path / "out", ConvertConfig()).splits
    config = QUICK.model_copy(update={"split_file": tmp_path / "out" / "split.json"})
    result = classify(product, tmp_path / "run", config, device="cpu")
    assert result.tested_on == splits["test"].images


@pytest.mark.slow
def test_good_images_can_be_limited(make_product: MakeProduct, tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"good_limit": 2})
    result = classify(make_product({"crack": 4}, 8, 4), tmp_path / "run", config, device="cpu")
    assert result.trained_on + result.tested_on == 6


@pytest.mark.slow
def test_without_its_weights_it_starts_at_random_and_says_so_or_stops(
    make_product: MakeProduct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.models.weights.store import WeightsStore

    def unreachable(self: WeightsStore, name: str) -> None:
        raise WeightsError(f"weights {name} cannot be fetched")

    monkeypatch.setattr(WeightsStore, "get", unreachable)
    product = make_product()
    result = classify(product, tmp_path / "run", QUICK, device="cpu")
    assert result.weights == "random (ImageNet's are not available)"
    with pytest.raises(WeightsError, match="cannot be fetched"):
        classify(
            product, tmp_path / "no", QUICK.model_copy(update={"pretrained": "yes"}), device="cpu"
        )


def test_a_picture_that_cannot_be_decoded_is_named_or_passed_over(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    product = make_product({"crack": 5})
    path = product / "test" / "crack" / "000.png"
    content = bytearray(path.read_bytes())
    content[60:200] = bytes(140)  # its header and its end are whole
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"000\.png"):
        classify(product, tmp_path / "run", QUICK, device="cpu")
    assert not (tmp_path / "run").exists()
    result = classify(product, tmp_path / "run", QUICK, device="cpu", keep_going=True)
    assert len(result.faults) == 1
    assert result.trained_on + result.tested_on == 10  # of 6 good and 5 cracked


@pytest.mark.slow
def test_a_call_that_was_stopped_is_taken_up_and_ends_alike(
    make_product: MakeProduct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.stages import classify as stage

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    product = make_product({"crack": 5}, 5, 5)
    with monkeypatch.context() as patched:
        patched.setattr(stage, "classification", stopped)  # after the training and the test
        with pytest.raises(KeyboardInterrupt):
            classify(product, tmp_path / "run", QUICK, device="cpu")
    assert not (tmp_path / "run").exists()
    assert (tmp_path / ".run.unfinished" / ".work" / "checkpoint.pt").is_file()
    again = classify(product, tmp_path / "run", QUICK, device="cpu")
    straight = classify(product, tmp_path / "straight", QUICK, device="cpu")
    assert again.training_loss == straight.training_loss
    kept = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "straight")]
    assert kept[0] == kept[1]
    assert not (tmp_path / "run" / ".work").exists()
