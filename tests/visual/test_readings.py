"""Every number that an evaluation puts beside a control has a title, and stand-ins do not borrow a name."""

from __future__ import annotations

import pytest

from threedgp.visual.readings import READINGS, rank, reading

BESIDE_CONTROLS = [
    *("swd", "depth_swd", "normal_swd", "shape_distance", "shape_coverage", "nfs", "depth_consistency"),
    *("view_color_error", "view_depth_error", "view_judged", "fid", "kid", "inception_score", "precision", "recall"),
    *("class_recall", "class_diversity", "fd_net", "kd_net", "class_score_net", "precision_net"),
    *("recall_net", "class_recall_net", "class_diversity_net"),
]


@pytest.mark.parametrize("metric", BESIDE_CONTROLS)
def test_known(metric):
    about = reading(metric, distilled=False)
    assert about.title
    assert about.how.endswith(".")


def test_stand_ins_say_so():
    about = reading("fd_efficientnet_lite0", distilled=True)
    assert about.title == "Fréchet distance on efficientnet_lite0 features"
    assert "so this is no FID" in about.how
    assert "flatters" in about.how
    assert reading("class_recall_net", distilled=False).title == "Recall within a class on net features"
    assert reading("class_recall_net", distilled=False).title != reading("recall_net", distilled=False).title


def test_unknown():
    with pytest.raises(KeyError):
        reading("beauty", distilled=False)


def test_order():
    assert sorted(["fd_net", "nfs", "swd", "depth_swd"], key=rank) == ["swd", "depth_swd", "nfs", "fd_net"]
    assert len({rank(metric) for metric in READINGS}) == len(READINGS)
