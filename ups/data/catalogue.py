"""Published files of PDEBench that this project can use: names, addresses and checksums.

Addresses and checksums are those of PDEBench's own list (`pdebench_data_urls.csv`, April 2024; Takamoto et al., DaRUS,
doi:10.18419/darus-2986). The publisher states no sizes; `payload_bytes` is the size of the fields alone, derived from
their shapes, and a file is a little larger.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ups.data.progress import Progress
from ups.errors import DataError

_SERVER = "https://darus.uni-stuttgart.de/api/access/datafile/"
_LINE_1D = 10_000 * 201 * 1024 * 4  # trajectories x frames x points, float32
_REACTION = 10_000 * 101 * 1024 * 4
_DARCY = 10_000 * 2 * 128 * 128 * 4  # samples x (coefficient, solution) x grid, float32


@dataclass(frozen=True)
class PublishedFile:
    """One downloadable file.

    Attributes:
        name: file name, also its name for `ups data fetch`.
        equation: what it holds.
        url: where it is.
        md5: the publisher's checksum.
        payload_bytes: size of the fields; the file is a little larger.
    """

    name: str
    equation: str
    url: str
    md5: str
    payload_bytes: int


def _burgers(viscosity: str, number: int, md5: str) -> PublishedFile:
    return PublishedFile(f"1D_Burgers_Sols_Nu{viscosity}.hdf5", "burgers", f"{_SERVER}{number}", md5, _LINE_1D)


def _advection(velocity: str, number: int, md5: str) -> PublishedFile:
    return PublishedFile(f"1D_Advection_Sols_beta{velocity}.hdf5", "advection", f"{_SERVER}{number}", md5, _LINE_1D)


def _reaction(diffusivity: str, rate: str, number: int, md5: str) -> PublishedFile:
    name = f"ReacDiff_Nu{diffusivity}_Rho{rate}.hdf5"
    return PublishedFile(name, "diffusion_reaction", f"{_SERVER}{number}", md5, _REACTION)


def _darcy(force: str, number: int, md5: str) -> PublishedFile:
    return PublishedFile(f"2D_DarcyFlow_beta{force}_Train.hdf5", "darcy", f"{_SERVER}{number}", md5, _DARCY)


CATALOGUE: dict[str, PublishedFile] = {
    file.name: file
    for file in (
        _burgers("0.001", 268190, "44cb784d5a07aa2b1c864cabdcf625f9"),
        _burgers("0.002", 268193, "edf1cd13622d151dfde3e4e5af7a95b4"),
        _burgers("0.004", 268191, "435e1fecb8a64a0b4563bb8d09f81c33"),
        _burgers("0.01", 281363, "e6d9a4f62baf9a29121a816b919e2770"),
        _burgers("0.02", 268189, "7c8c717a3a7818145877baa57106b090"),
        _burgers("0.04", 281362, "16f4c7afaf8c16238be157e54c9297c7"),
        _burgers("0.1", 268185, "660ba1008d3843bf4e28d2895eb607ce"),
        _burgers("0.2", 268187, "01d9333254dff2f3cad090b61f5cf695"),
        _burgers("0.4", 268192, "58327a6107e8f9defb5075677cc42533"),
        _burgers("1.0", 281365, "9021eba35332d127306f11ef84c1a60f"),
        _burgers("2.0", 281364, "70fe0c24d9313e70f6059e5212bdb3d7"),
        _burgers("4.0", 268188, "8af7f70166c00ffad377c80fa477d81f"),
        _advection("0.1", 255672, "b4be2fc3383f737c76033073e6d2ccfb"),
        _advection("0.2", 255671, "d47b52c1be4b6bcaa8748a8df2f5fbb8"),
        _advection("0.4", 255674, "d595bbfd2c659df995a93cd40d6ea568"),
        _advection("0.7", 255666, "f89030c240a1e90b55649776854a84c2"),
        _advection("1.0", 255675, "1fe41923a4123db55bf4e89bea32e142"),
        _advection("2.0", 255677, "0e9beff98693089c38e213a1f2b9ac43"),
        _advection("4.0", 255676, "a87b03ff425496360e2732921805f47d"),
        _advection("7.0", 255664, "72a286ad2fcba574bd20bc045ba82d58"),
        _reaction("0.5", "1.0", 133177, "69a429239778d529cd419ed5888ea835"),
        _reaction("0.5", "10.0", 133178, "ff7c724b18e7ebe02e19c179852f48ee"),
        _reaction("0.5", "2.0", 133179, "ac907daa7e483d203a5c77567cdea561"),
        _reaction("0.5", "5.0", 133180, "fb149e7540d8977af158bb8fec1048a3"),
        _reaction("1.0", "1.0", 133181, "bd73c2f3448d03e95e98c3831fc8fa70"),
        _reaction("1.0", "10.0", 133182, "a94e65631881a27ddae3ef74caf53093"),
        _reaction("1.0", "2.0", 133183, "112c01a76447162bd67c8c1073f58ca2"),
        _reaction("1.0", "5.0", 133184, "fa224c9d143de37ac6914d391e70f425"),
        _reaction("2.0", "1.0", 133185, "925a7e2c9b9e40ad2dd44b7002ec882b"),
        _reaction("2.0", "10.0", 133186, "a3e25a9fb8a99f010352ad3dd1afd596"),
        _reaction("2.0", "2.0", 133187, "426353b241acfbc64067acb1bdc80ade"),
        _reaction("2.0", "5.0", 133188, "f2890bdac5103a3b78fac5f80e57b760"),
        _reaction("5.0", "1.0", 133189, "0ed75b55f61bec11c47d379e34959e54"),
        _reaction("5.0", "10.0", 133190, "264c80af0e2a6cc1f70e87275e0f6ac4"),
        _reaction("5.0", "2.0", 133191, "f927f5d85f2e9bd97dff31b4dab051ae"),
        _reaction("5.0", "5.0", 133192, "c9c26e2b5f2d4bf5bcbbd4ba34fefd5e"),
        _darcy("0.01", 133217, "d05c287d4c0b7d3178b0097084238251"),
        _darcy("0.1", 133218, "294f9a03a4aa16b0e386469ca8b471be"),
        _darcy("1.0", 133219, "81694ed31306ff2e5f6b76349b0b4389"),
        _darcy("10.0", 133220, "a7f23cf8011fc211b180828af39b7d1a"),
        _darcy("100.0", 133221, "7c09f3b1bb097737d3fd52ffb0c6f1c8"),
    )
}

# MD5 of files that PDEBench published once and has replaced (its list `download_metadata.csv` of November 2022). The
# Burgers files have x from -1 to 1 and a wrong flux factor (PDEBench issue 51); the advection files move at twice the
# stated speed (issue 46).
SUPERSEDED: frozenset[str] = frozenset(
    {
        "5f7242c820efb37bae3d82e983c04e43",
        "eb7cc49d7d4d346d7abe9af9eee3f86b",
        "e1c40dd4c0d8b858231408009e8a8def",
        "0a49257a0e5cd644459d3984185bb033",
        "79047cf2f24cb1fac309900f7ca0e8b3",
        "4aea33401b9d8dcca6830116717d54fe",
        "f50828c7d253d4b9cdb15b21c175b506",
        "e9791092deac0d2f54dcaad6e8d047c2",
        "3389b8dd9ed15873463878506a0a87e8",
        "69c1890c49fc7ba36aac7107c41d5f41",
        "fe6a312a9f4058e26dd69b999312ddd1",
        "f9f848275533aaebd0aa4683411629af",
        "183cd9b7a6c3c5caf0fd89c87f2c4a80",
        "e6b6997e00bc0310308ce14df12fecd4",
        "99d57a5a8d660ba2cb824f41e09c6543",
        "91a599ed8c11447dec8200b0915571a3",
        "24bb9795a558bcc3bc9103b1cb791965",
        "73ec4f7980462a13629234ec2f849e78",
    }
)

Verdict = Literal["matches", "differs", "not a published name"]


def check_published(path: Path) -> Verdict:
    """Compare a file that bears a published name with the publisher's checksum (8 GB take about half a minute).

    A difference is no error: who runs PDEBench's own generator gets other files of the same names.

    Raises:
        DataError: if it is one of the files that PDEBench replaced because they hold another equation.
    """
    if path.name not in CATALOGUE:
        return "not a published name"
    digest = md5_of(path)
    if digest in SUPERSEDED:
        raise DataError(
            f"{path} is PDEBench's first version of this file (MD5 {digest}), which was withdrawn in 2023 because it "
            "solves another equation (wrong flux factor or speed). Delete it and download the corrected one: `ups "
            f"data fetch {path.name}`."
        )
    return "matches" if digest == CATALOGUE[path.name].md5 else "differs"


def md5_of(path: Path) -> str:
    """Return the MD5 of a file as 32 hexadecimal digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file, Progress(f"MD5 of {path.name}", path.stat().st_size, "B") as progress:
        while block := file.read(2**22):
            digest.update(block)
            progress.update(len(block))
    return digest.hexdigest()
