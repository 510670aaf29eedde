"""How much a later head reads of what an earlier one writes, beside chance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def composition(
    write: Float[np.ndarray, "d_in d"],
    read: Float[np.ndarray, "d d_out"],
    draws: int,
    rng: np.random.Generator,
) -> tuple[float, Float[np.ndarray, " draws"]]:
    """Composition score of two heads, and the scores of the same two turned against each other.

    The score is ‖write · read‖ / (‖write‖ ‖read‖), in Frobenius norms (Elhage et al. 2021). What is
    written is turned at random, so the shapes of both matrices stay and their directions no longer
    match. The mean of a vector, which LayerNorm takes away, counts in neither.

    Args:
        write: W_V W_O of the earlier head. read: the later head's W_V W_O, W_Q W_Kᵀ or W_K W_Qᵀ.
        draws: how many turns.
    """
    width = len(read)
    constant = np.full((width, 1), width**-0.5)
    # an orthonormal basis of the vectors without mean
    kept = np.linalg.svd(np.eye(width) - constant @ constant.T)[0][:, : width - 1]
    written: np.ndarray = np.linalg.qr(write @ kept)[1]  # its norms are those of what is written
    seen: np.ndarray = np.linalg.qr((kept.T @ read).T)[1].T
    norms = np.linalg.norm(written) * np.linalg.norm(seen)
    turned = np.empty(draws)
    for i in range(draws):
        turn, triangle = np.linalg.qr(rng.normal(size=(width - 1, width - 1)))
        turn = turn * np.sign(np.diag(triangle))  # every turn is equally likely
        turned[i] = np.linalg.norm(written @ turn @ seen) / norms
    return float(np.linalg.norm(written @ seen) / norms), turned
