"""From cold to hot: means by hand, places counted in each block of its own."""

import numpy as np
import pandas as pd
import pytest
from synthetic_zoo import synthetic_zoo

from mdtree.temperature_profile import profile_rows, temperature_profile


def test_means_by_hand():
    zoo = synthetic_zoo()
    points = temperature_profile(zoo)
    temperatures = np.sort(zoo["temperature"].unique())
    assert [point.place for point in points] == list(range(len(temperatures)))
    hottest = zoo[(zoo["temperature"] == temperatures[-1]) & (zoo["diverged"] == 0)]
    last = points[-1]
    assert last.networks == len(hottest)
    assert last.test_error_percent == pytest.approx(hottest["gain_test_error_percent"].mean())
    assert last.trace_per_parameter == pytest.approx(np.exp(np.log(hottest["hessian_trace_per_parameter"]).mean()))
    assert last.untrained == pytest.approx((hottest["train_error_over_chance"] >= 0.9).mean())


def test_two_blocks_with_axes_of_their_own_are_laid_side_by_side():
    zoo = synthetic_zoo()
    other = zoo.assign(label_noise=0.3, temperature=zoo["temperature"] * 7)
    both = pd.concat([zoo, other], ignore_index=True)
    points = temperature_profile(both)
    assert [point.place for point in points] == [point.place for point in temperature_profile(zoo)]
    assert points[0].networks == 2 * temperature_profile(zoo)[0].networks


def test_what_diverged_is_left_out_and_what_was_not_measured_is_a_dash():
    zoo = synthetic_zoo()
    coldest = zoo["temperature"] == zoo["temperature"].min()
    zoo.loc[zoo.index[coldest][0], "diverged"] = 1
    zoo.loc[coldest, ["cka_mixup", "connectivity_barrier_percent"]] = np.nan
    zoo.loc[coldest, "hessian_trace_per_parameter"] = -1.0
    points = temperature_profile(zoo)
    assert points[0].networks == coldest.sum() - 1
    rows = {row[0]: row[1:] for row in profile_rows(points)}
    assert rows["CKA on mixtures"][0] == rows["barrier (points)"][0] == rows["trace / parameter"][0] == "-"
    assert rows["training error (%)"][0] != "-"
    assert len({len(row) for row in rows.values()}) == 1
