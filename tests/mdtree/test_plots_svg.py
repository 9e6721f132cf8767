"""Pictures for pages: they stand alone, are the same every time, and hold in grey and for the colour-blind."""

import itertools
import re
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import numpy as np
import pytest
from test_plots import with_series

from mdtree import plots
from mdtree.plots.style import brightness, colour, mixed, text_on

CURVE = plots.curve_data(with_series())


def test_equal_data_give_equal_bytes_whatever_was_drawn_before():
    first = plots.svg(plots.draw_curve, CURVE, title="curve")
    plots.svg(plots.draw_spectrum, plots.spectrum_data(with_series()))
    with mpl.rc_context({"font.size": 20, "svg.hashsalt": "other"}):
        assert plots.svg(plots.draw_curve, CURVE, title="curve") == first


def test_pictures_drawn_at_once_do_not_meet():
    wanted = {dark: plots.svg(plots.draw_curve, CURVE, dark) for dark in (False, True)}
    assert wanted[False] != wanted[True]
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda dark: (dark, plots.svg(plots.draw_curve, CURVE, dark)), [False, True] * 6))
    assert all(picture == wanted[dark] for dark, picture in drawn)


def test_a_picture_needs_nothing_from_outside_and_meets_no_other_id():
    light, dark = (plots.svg(plots.draw_layers, plots.layers_data(with_series()), dark) for dark in (False, True))
    for picture in (light, dark):
        root = ET.fromstring(picture)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert not re.search(
            r"<(script|style|image|metadata|foreignObject)\b|@import|https?://(?!www\.w3\.org/)", picture
        )
        ids = re.findall(r'\bid="([^"]+)"', picture)
        assert len(ids) == len(set(ids)) > 5
        used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', picture)
        assert {a or b for a, b in used} <= set(ids)
    assert not set(re.findall(r'\bid="([^"]+)"', light)) & set(re.findall(r'\bid="([^"]+)"', dark))


def test_text_stays_text_and_hostile_titles_are_escaped():
    picture = plots.svg(plots.draw_layers, plots.layers_data(with_series()), title='<b> & "quote"')
    root = ET.fromstring(picture)
    said = ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a.weight  3×4" in [" ".join(text.split(" ")) for text in said]
    assert any("$x$" in text for text in said)
    assert root.find("{http://www.w3.org/2000/svg}title").text == '<b> & "quote"'
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == '<b> & "quote"'
    assert ET.fromstring(plots.svg(plots.draw_curve, CURVE)).attrib["aria-hidden"] == "true"
    assert ET.fromstring(plots.svg(plots.draw_curve, CURVE, title="a\0\nb")).attrib["aria-label"] == "a  b"


def test_a_name_in_another_script_is_drawn_without_a_warning(recwarn):
    layer = {"name": "層<script>", "shape": [1], "parameters": 1, "weight_norm": 1.0, "gradient_norm": 1.0}
    record = with_series()
    object.__setattr__(record, "layers", (layer,))
    assert "層&lt;script&gt;" in plots.svg(plots.draw_layers, plots.layers_data(record))
    assert not recwarn.list


def test_dark_ink_is_light_and_the_settings_are_given_back():
    before = dict(mpl.rcParams)
    with plots.style(dark=True):
        assert mpl.rcParams["text.color"] == plots.DARK.text
        assert colour("temperature_too_low") != plots.COLOURS["temperature_too_low"]
    assert dict(mpl.rcParams) == before
    with pytest.raises(ZeroDivisionError), plots.style():
        1 / 0  # noqa: B018
    assert dict(mpl.rcParams) == before


def contrast(a, b):
    light, dark = sorted((brightness(a), brightness(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_the_contrast_that_wcag_asks_for(dark):
    with plots.style(dark):
        ink = plots.DARK if dark else plots.LIGHT
        for ground in (ink.ground, ink.panel):
            assert contrast(ink.text, ground) >= 7
            assert contrast(ink.faint, ground) >= 4.5
        for cause in plots.COLOURS:
            face = colour(cause)
            assert contrast(text_on(face), face) >= 4.5
            assert contrast(ink.faint, mixed(face, ink.ground, 0.1)) >= 4.5  # leaves that were not reached


def deuteranope(name):
    """What is left without green cones (Viénot, Brettel and Mollon, 1999), linear RGB."""
    linear = np.array([c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(name)])
    to_lms = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
    reduce = np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]])
    return np.linalg.solve(to_lms, reduce @ to_lms @ linear)


@pytest.mark.parametrize("dark", [False, True])
def test_verdicts_are_told_apart_without_colour_and_without_green_cones(dark):
    assert len(set(plots.MARKERS.values())) == len(set(plots.HATCHES.values())) == len(plots.COLOURS)
    with plots.style(dark):
        seen = {name: deuteranope(colour(name)) for name in plots.COLOURS if name != "undetermined"}
    for a, b in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 0.08, (a, b)
