"""Lists of on-shell items: prefix sums in blocks, labels of bit fields, and the list itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wigner_jax._core.prefix_sum import prefix_sum
from wigner_jax._core.tiling import ACCELERATOR, CPU
from wigner_jax.physics.broadening.windows import Fields, expand


@pytest.mark.parametrize("n", [1, 63, 64, 65, 4096, 4097, 300_000])
def test_sums(n):
    x = np.random.default_rng(n).integers(0, 9, n).astype(np.int32)
    found = jax.jit(prefix_sum)(x)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, np.cumsum(x))


@pytest.mark.parametrize(
    ("fields", "dtype"),
    [(Fields((1,), 1), "int32"), (Fields((2, 3, 6, 6), 300), "int32"), (Fields((6,), 1331), "int32"),
     (Fields((4, 3, 300, 300), 2**11), "int64")],
)  # fmt: skip
def test_labels_hold_their_indices(fields, dtype):
    rng = np.random.default_rng(0)
    if np.prod(fields.sizes) * fields.lanes < 10**6:
        label = np.asarray(fields.labels())
        assert label.dtype == dtype
        assert label.shape == (np.prod(fields.sizes), fields.lanes)
        assert np.all(np.diff(label.T.ravel()) > 0)  # lanes slowest, so that the list is in order
        chosen = rng.integers(0, label.shape[0], 50), rng.integers(0, label.shape[1], 50)
        label = label[chosen]
    else:  # by hand: the table is too large for a test
        indices = [rng.integers(0, n, 50) for n in fields.sizes]
        chosen = np.ravel_multi_index(indices, fields.sizes), rng.integers(0, fields.lanes, 50)
        assert jax.eval_shape(fields.labels).dtype == dtype
        label = chosen[1].astype(dtype)
        for index, width in zip(indices, fields.widths[1:], strict=True):
            label = (label << width) | index
    indices, row, lane = fields.unpack(jnp.asarray(label))
    np.testing.assert_array_equal(row, chosen[0])
    np.testing.assert_array_equal(lane, chosen[1])
    np.testing.assert_array_equal(np.stack(indices), np.stack(np.unravel_index(chosen[0], fields.sizes)))


@pytest.mark.parametrize("tiling", [CPU, ACCELERATOR], ids=["cpu", "accelerator"])
def test_a_list_of_items(tiling):
    """Every mode of every window once, in order, whatever the indices."""
    fields, rng = Fields((2, 3, 5), 40), np.random.default_rng(1)
    rows = int(np.prod(fields.sizes))
    start, count = (rng.integers(0, 4, (rows, fields.lanes)).astype(np.int32) for _ in range(2))
    label, windows = expand(jnp.asarray(start), jnp.asarray(count), fields, 4096, tiling)
    indices, lane, mode, valid = windows.at(fields, label, jnp.arange(4096, dtype=jnp.int32))
    expected = [
        (*np.unravel_index(row, fields.sizes), k, start[row, k] + i)
        for k in range(fields.lanes) for row in range(rows) for i in range(count[row, k])
    ]  # fmt: skip
    assert int(windows.total) == len(expected) == int(np.sum(np.asarray(valid)))
    found = np.stack([*indices, lane, mode], axis=1)[: len(expected)]
    np.testing.assert_array_equal(found, np.array(expected))
