"""The published M3GNet models, where their files are, and what is known of them."""

from __future__ import annotations

import functools

from ..downloads import Published
from ..family import MPTRJ, Card


def _published(url: str, file: str, sha256: str, folders: tuple[str, ...], **places: str) -> Published:
    """One file of a model: the program's own folders have several."""
    names = tuple(f"{folder}/{file}" for folder in folders)
    return Published(f"{url}/{file}", sha256, names, **{key: f"{place}/{file}" for key, place in places.items()})


_EFS = functools.partial(
    _published,
    "https://github.com/materialsvirtuallab/m3gnet/raw/main/pretrained/MP-2021.2.8-EFS",
    folders=("MP-2021.2.8-EFS", "M3GNet-MP-2021.2.8-EFS-tf"),
    package="m3gnet/models/MP-2021.2.8-EFS",
)
_PES = functools.partial(
    _published,
    "https://github.com/materialsvirtuallab/matgl/raw/v1.1.3/pretrained_models/M3GNet-MP-2021.2.8-PES",
    folders=("M3GNet-MP-2021.2.8-PES",),
    cache="~/.cache/matgl/M3GNet-MP-2021.2.8-PES",
)
MODELS: dict[str, Published] = {
    "m3gnet-mp-2021.2.8": _EFS("m3gnet.index", "7b6cdf0924e0ba9ac8d66c2905bf49ab3365e56def73de90b154d1506cfcc6ce"),
    "m3gnet-mp-2021.2.8-matgl": _PES("state.pt", "a9aa723705bd1a242ec8749332f137811c4a94e17995a564f8f94a9aca68061b"),
}
#: the other files of each model, which must stand beside the one above
COMPANIONS: dict[str, tuple[Published, ...]] = {
    "m3gnet-mp-2021.2.8": (
        _EFS("m3gnet.json", "1aff67d1a07d460185d6e97286147a3e508cf323a532a70412832f374695ff72"),
        _EFS("m3gnet.data-00000-of-00001", "3d6d4bd777eb7af8efe7ccae0804ffbc58cdb9aac946db08b01e7e5f41eb70eb"),
    ),
    "m3gnet-mp-2021.2.8-matgl": (
        _PES("model.json", "05e7db8676ceb37eb07848aff49c556b188699e1035f3df0cbbf1a2c4959148f"),
    ),
}
CARDS = (
    Card(
        "m3gnet-mp-2021.2.8", "M3GNet", MPTRJ, 5.0, 227_549, "BSD-3-Clause", 2,
        "E''' jumps where a pair crosses 4 Å (angles) or 5 Å (bonds; by −8.8 eV/Å³ for Na–Cl), E'' does not",
        "C. Chen and S. P. Ong, Nat. Comput. Sci. 2, 718 (2022); the TensorFlow weights",
    ),
    Card(
        "m3gnet-mp-2021.2.8-matgl", "M3GNet", MPTRJ, 5.0, 288_157, "BSD-3-Clause", 0,
        "E' itself jumps where a pair crosses 5 Å (by −0.87 eV/Å for Na–Cl, −0.49 for Mg–O), of which force constants by differentiation know nothing; published conductivities are by"
        " displacements of 0.03 Å. matgl 1.1.3 makes three-body sums of wrong edges; with those of the publication, as"
        " here, forces differ by up to 1.3e-3 eV/Å",
        "C. Chen and S. P. Ong, Nat. Comput. Sci. 2, 718 (2022); retrained by matgl",
        route="finite-displacement",
    ),
)  # fmt: skip
