"""Colours are told apart from the page and from each other, by everybody, on light and on dark pages."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeemu.report.drawn.palette import ALARM, ALL, DEVICES, INK, OTHERS, PAPER, SOFT, DeviceColours

# Machado, Oliveira, Fernandes, "A physiologically-based model for simulation of color vision deficiency", 2009:
# on linear RGB, complete.
SIGHT = {
    "all colours": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Ottosson, "A perceptual color space for image processing", 2020.
TO_CONES = np.array(
    [[0.41222147, 0.53633254, 0.05144599], [0.2119035, 0.68069955, 0.10739696], [0.08830246, 0.28171884, 0.6299787]]
)
TO_LAB = np.array(
    [[0.21045426, 0.7936178, -0.00407205], [1.9779985, -2.4285922, 0.4505937], [0.02590404, 0.78277177, -0.80867577]]
)


def linear(colour: str) -> NDArray[np.float64]:
    rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """As WCAG 2.2 has it."""
    dark, light = sorted(float(linear(each) @ [0.2126, 0.7152, 0.0722]) for each in (one, other))
    return (light + 0.05) / (dark + 0.05)


def seen(colour: str, sight: str) -> NDArray[np.float64]:
    cones = TO_CONES @ np.clip(np.array(SIGHT[sight]) @ linear(colour), 0, 1)
    return TO_LAB @ np.cbrt(cones)


@pytest.mark.parametrize("shade", ["light", "dark"])
def test_contrast_with_the_page(shade: str) -> None:
    paper = getattr(PAPER, shade)
    for colour, least in ((INK, 7.0), (SOFT, 4.5), (ALARM, 4.5), (OTHERS, 3.0), *((each, 3.0) for each in DEVICES)):
        assert contrast(getattr(colour, shade), paper) >= least, colour


@pytest.mark.parametrize("shade", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_colours_of_devices_are_told_apart(shade: str, sight: str) -> None:
    # The palette of Okabe and Ito has 0.076 at the worst of these.
    for one, other in combinations(DEVICES, 2):
        apart = np.linalg.norm(seen(getattr(one, shade), sight) - seen(getattr(other, shade), sight))
        assert apart > 0.09, (one, other)


def test_names_and_shades_stand_once() -> None:
    """Colours of a picture become variables by their light shade."""
    assert len({colour.name for colour in ALL}) == len({colour.light for colour in ALL}) == len(ALL)


def test_more_devices_than_colours() -> None:
    names = [f"pi-{number}" for number in range(10)]
    colours = DeviceColours(names)
    assert [colours.of(name) for name in names] == [*DEVICES, OTHERS, OTHERS]
    assert colours.of("another") is OTHERS
