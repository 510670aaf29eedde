"""What eyes make of a colour: contrast on a page, and distances for kinds of colour blindness."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from plotly.colors import hex_to_rgb

MACHADO = dict(
    normal=np.eye(3),
    protan=[
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    deutan=[
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    tritan=[
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
)
"""How each kind of eye sees linear RGB: Machado, Oliveira and Fernandes (2009), severity 1."""

OTTOSSON = (
    [
        [0.412221, 0.536333, 0.051446],
        [0.211904, 0.680700, 0.107397],
        [0.088302, 0.281719, 0.629979],
    ],
    [
        [0.210454, 0.793618, -0.004072],
        [1.977999, -2.428592, 0.450594],
        [0.025904, 0.782772, -0.808676],
    ],
)
"""Linear RGB to cone responses, and their cube roots to OKLab."""


def linear_rgb(colour: str) -> np.ndarray:
    """Linear RGB, 0 to 1, of a hex colour."""
    encoded = np.array(hex_to_rgb(colour)) / 255
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def contrast(colour: str, background: str) -> float:
    """Contrast ratio of two hex colours, 1 (none) to 21 (black on white), as WCAG 2 defines it."""
    luminances = [linear_rgb(c) @ [0.2126, 0.7152, 0.0722] for c in (colour, background)]
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


def closest(colours: Iterable[str], kind: str) -> float:
    """Smallest distance of two of the colours as that kind of eye sees them, in OKLab.

    Black to white is 100; two greys just told apart are about 2.
    """
    to_cones, to_lab = map(np.array, OTTOSSON)
    seen = [np.clip(np.array(MACHADO[kind]) @ linear_rgb(colour), 0, 1) for colour in colours]
    places = [to_lab @ np.cbrt(to_cones @ rgb) for rgb in seen]
    return min(100 * np.linalg.norm(a - b) for a, b in itertools.combinations(places, 2))
