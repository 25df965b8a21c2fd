"""`egrecho forget`: both ends are the two models, what lies between is their mean, and the best weight is named."""

import json
from pathlib import Path

import pytest
from tiny import save_tiny, speech_cuts

from egrecho_inner.average import average
from egrecho_inner.config import run
from egrecho_inner.decoding.interpolate import interpolated_rates
from egrecho_inner.decoding.options import DecodeOptions
from egrecho_inner.errors import ConfigError
from egrecho_inner.forget import forget
from egrecho_inner.report.curve import best_weight, curve_svg, curve_table

QUICK = DecodeOptions(max_new_tokens=6, language="en")


def test_rates_are_those_of_the_models_at_each_weight(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    base, tuned = (str(save_tiny(tmp_path / f"m{seed}", seed=seed, ending=2.5)) for seed in (1, 2))
    sets = {name: str(speech_cuts(tmp_path, 3, seed, name=name)) for seed, name in enumerate(("mine", "other"))}
    named = [f"{name}={path}" for name, path in sets.items()]
    argv = [base, tuned, "--cuts", json.dumps(named), "--out", str(tmp_path / "out"), "--weights", "[0.5]"]
    run(forget, [*argv, "--decode.max_new_tokens", "6", "--decode.language", "en", "--metric", "cer"])
    found = json.loads((tmp_path / "out" / "forget.json").read_text())
    average([base, tuned], str(tmp_path / "mean"))
    for weight, model in (("0.0", base), ("0.5", str(tmp_path / "mean")), ("1.0", tuned)):
        alone = interpolated_rates(model, model, [1.0], sets, QUICK, metric="cer")
        for name in sets:
            assert found["rates"][name][weight] == pytest.approx(alone[name][1.0], abs=1e-9)
    assert len({of_set["0.0"] != of_set["1.0"] for of_set in found["rates"].values()}) >= 1
    assert "lowest mean" in capsys.readouterr().out
    assert (tmp_path / "out" / "forget.svg").read_text().count("<polyline") == 2


def test_the_best_weight_has_the_lowest_mean() -> None:
    rates = {"mine": {0.0: 0.5, 0.5: 0.2, 1.0: 0.1}, "other": {0.0: 0.1, 0.5: 0.15, 1.0: 0.4}}
    assert best_weight(rates) == 0.5
    assert curve_table(rates).splitlines()[3] == "| 0.5 | 20.00 | 15.00 | 17.50 |"
    assert best_weight({"mine": {0.0: 0.1, 1.0: 0.1}}) == 0.0
    assert "mine &lt;" in curve_svg({"mine <": {0.0: 0.1, 1.0: None}}, 0.0)


def test_sets_have_names_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two sets are called x"):
        forget("a", "b", ["x=1", "x=2"], str(tmp_path))
    with pytest.raises(ConfigError, match="cuts is empty"):
        forget("a", "b", [], str(tmp_path))
