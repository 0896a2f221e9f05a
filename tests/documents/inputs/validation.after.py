"""The page's claims: no jump in ours, the same limit in both programs, and a jump of more than 2 % in phono3py's own values."""

import numpy as np

rta, wigner, ours = np.array(table[0.0])  # noqa: F821
np.testing.assert_allclose(limit[2], ours, rtol=1e-4)  # noqa: F821
np.testing.assert_allclose(limit[1], ours, rtol=1e-4)  # noqa: F821
for strain in (2.5e-5, 5e-5):
    np.testing.assert_allclose(table[strain][1], table[strain][2], rtol=1e-5)  # noqa: F821
assert wigner < 0.98 * limit[1]  # noqa: F821
assert rta < 0.98 * limit[0] < 0.98 * ours  # noqa: F821
