import math
import re
from xml.etree import ElementTree

import pytest

from demo_bert.report.svg import Chart, Level, Series, figure


def parsed(chart: Chart) -> ElementTree.Element:
    return ElementTree.fromstring(figure(chart).replace("&nbsp;", " "))


def line_points(root: ElementTree.Element) -> list[tuple[float, float]]:
    path = next(p for p in root.findall("./svg/path") if p.get("class").startswith("line"))
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.]+) ([-\d.]+)", path.get("d"))]


@pytest.mark.parametrize(
    "points",
    [
        [(1, 0.5)],
        [(1, 0.0), (2, 0.0)],
        [(1, 1e-9), (2, 1e9)],
        [(1, -3.0), (2, math.nan), (3, math.inf), (4, 2.0)],
        [(step, math.sin(step)) for step in range(5000)],
        [(1, 1e-300), (2, 2e-300)],
        [(1, 1e300), (2, -1e300)],
    ],
)
@pytest.mark.parametrize("style", ["line", "faint", "dots"])
@pytest.mark.parametrize("from_zero", [False, True])
def test_any_curve_is_drawn_inside_the_picture(points, style, from_zero):
    root = parsed(Chart("T", [Series("s", points, style=style)], from_zero=from_zero))
    drawn = line_points(root)
    assert drawn and all(0 <= x <= 460 and 0 <= y <= 250 for x, y in drawn)


def test_there_is_no_chart_without_a_finite_point():
    assert figure(Chart("T", [])) == ""
    assert figure(Chart("T", [Series("s", [(1, math.nan)])])) == ""


def test_higher_values_are_drawn_higher_and_later_ones_further_right():
    (x0, y0), (x1, y1) = line_points(parsed(Chart("T", [Series("s", [(1, 0.2), (9, 0.8)])])))
    assert x1 > x0 and y1 < y0


def test_a_value_that_is_not_finite_breaks_the_line_and_is_counted():
    points = [(1, 1.0), (2, 2.0), (3, math.nan), (4, 2.0), (5, 1.0)]
    html = figure(Chart("T", [Series("s", points)]))
    path = re.findall(r'class="line c0" d="([^"]*)"', html)[-1]
    assert path.count("M") == 2 and path.count("L") == 2
    assert "1 value not finite, left out" in html


def test_an_outlier_does_not_flatten_the_curve_and_is_told():
    noisy = [(step, 1.0 + 0.1 * math.sin(step)) for step in range(200)] + [(200, 1000.0)]
    html = figure(Chart("T", [Series("s", noisy, style="faint")]))
    assert "1 point beyond the axis" in html
    ys = [y for _, y in line_points(ElementTree.fromstring(html))]
    assert max(ys) - min(ys) > 150
    calm = [(step, 1.0 + 0.1 * math.sin(step)) for step in range(200)]
    assert "beyond" not in figure(Chart("T", [Series("s", calm, style="faint")]))


def test_a_chart_is_told_in_words():
    series = Series("validation", [(10, 0.5), (20, 0.25)])
    root = parsed(Chart("Loss", [series], levels=[Level(0.75, "majority")]))
    picture = root.find("svg")
    assert picture.get("role") == "img"
    assert picture.get("aria-label") == (
        "Loss. validation: 0.500 at step 10, 0.250 at step 20, lowest 0.250, highest 0.500. "
        "majority: 0.750."
    )


def test_names_are_escaped():
    nasty = '"><script>alert(1)</script>'
    html = figure(Chart(nasty, [Series(nasty, [(1, 1.0)])], marks=[Level(1, nasty)]))
    assert "<script" not in html
    ElementTree.fromstring(html)


def test_more_series_than_colours_are_told_apart_by_dashes():
    series = [Series(str(place), [(1, 1.0), (2, place)], colour=place) for place in range(8)]
    classes = re.findall(r'<path class="(line [^"]*)" d="M5', figure(Chart("T", series)))
    assert len(set(classes)) == 8
