"""`lowbit gallery` writes what the surrogates say, for all of them."""

import numpy as np
import pandas as pd
import pytest

from lowbit import catalog
from lowbit.__main__ import main
from lowbit.commands.gallery import NAMED


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("gallery") / "new" / "surrogates.csv"
    assert main(["gallery", "--output", str(path)]) == 0
    return pd.read_csv(path)


def test_every_surrogate_is_there_under_every_named_setting(table):
    assert list(table) == ["surrogate", "setting", "u", "surrogate_gradient", "antiderivative", "mass"]
    settings = table.groupby("surrogate")["setting"].nunique()
    assert dict(settings) == {name: 1 + len(NAMED.get(name, ())) for name in catalog.available("surrogates")}
    assert set(NAMED) <= set(catalog.available("surrogates"))
    assert {"default", "width=0.5", "width=2.0"} <= set(table.loc[table.surrogate == "window", "setting"])
    assert {"default", "progress=0.5", "progress=1.0"} == set(table.loc[table.surrogate == "ede", "setting"])


def test_each_curve_is_whole_and_rises_by_the_area_below_its_derivative(table):
    assert not table.isna().any().any()
    for name, curve in table.groupby(["surrogate", "setting"]):
        assert curve.u.is_monotonic_increasing, name
        assert (curve.u.iloc[0], len(curve), curve.mass.nunique()) == (-3, 601, 1), name
        rise = curve.antiderivative.iloc[-1] - curve.antiderivative.iloc[0]
        assert np.trapezoid(curve.surrogate_gradient, curve.u) == pytest.approx(rise, abs=0.05), name
    default = table[table.setting == "default"].groupby("surrogate").mass.first()
    assert default["identity"] == np.inf
    assert default["triangle"] == default["window"] == 2
    assert default["ede"] == pytest.approx(2000)
