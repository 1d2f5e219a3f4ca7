"""Optimizers, one family a file, and the table that finds them by name."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..names import build, closest
from .adadagrad import AdAdaGrad
from .adafactor import Adafactor
from .adam import Adam
from .adamp import SGDP, AdamP
from .adamuon import AdaMuon
from .adaprelora import AdaPreLoRA
from .adaptive_memory import AdaptiveMemory
from .amsgrad import AMSGrad
from .aro import ARO
from .auon import AuON, HybridAuON
from .conda import Conda
from .contract import BlockMethod, Blockwise, Card, Method, lift
from .dct import DCTAdamW, Trion
from .diffgrad import DiffGrad
from .dion import Dion, OrthDion
from .dion2 import Dion2, NorDion2
from .drop_muon import DropMuon, start_law
from .fismo import FISMO
from .frugal import FRUGAL
from .galore import GaLore
from .gluon import Gluon
from .gradient import GradientDescent, HeavyBall, Nesterov
from .lanton import LANTON
from .lion import Lion
from .lion_k import LionK
from .lookahead import Lookahead
from .mfac import MFAC
from .mkor import MKOR
from .muon import SHAPE_FACTORS, Muon
from .namo import NAMO, NAMOD
from .normalized import NormalizedGD, SignDescent, Signum
from .normuon import NorMuon
from .polargrad import PolarGrad, ShippedQDWH
from .psgd import PSGD
from .random_scaling import RandomScaling
from .root import ROOT
from .scion import Scion
from .shampoo import Shampoo
from .soap import SOAP
from .sophia import Sophia
from .subspace_descent import OnlineSubspaceDescent
from .surgery import Surgery
from .sven import Sven
from .swan import SWAN
from .symmetry import SymmetryCompatible
from .trust_region import DualScaled, TrustRegion


class Entry(NamedTuple):
    """A method class, the hyper-parameters that a name presets, and their source where it is not the card's."""

    method: type[Method]
    preset: dict[str, Any] = {}  # noqa: RUF012
    source: str = ""


TABLE: dict[str, Entry] = {
    "gd": Entry(GradientDescent),
    "heavy-ball": Entry(HeavyBall),
    "nesterov": Entry(Nesterov),
    "adam": Entry(Adam),
    "normalized-gd": Entry(NormalizedGD),
    "sign": Entry(SignDescent),
    "signum": Entry(Signum),
    "trust-region": Entry(TrustRegion),
    "dual-scaled": Entry(DualScaled),
    "polargrad": Entry(PolarGrad),
    "polargrad-polar-first": Entry(PolarGrad, {"variant": "polar-first"}),
    "polargrad-shipped": Entry(PolarGrad, {"plan": ShippedQDWH()}),
    "muon": Entry(Muon),
    "muon-torch": Entry(Muon, {"variant": "torch", "lr": 1e-3, "weight_decay": 0.1}),
    "muon-moonlight": Entry(Muon, {"variant": "moonlight", "lr": 1e-3, "weight_decay": 0.1}, "liu2025muon"),
    "muon-dion": Entry(Muon, {"variant": "dion", "nesterov": False, "lr": 0.01, "weight_decay": 0.01}, "ahn2025dion"),
    "auon": Entry(AuON),
    "auon-package": Entry(AuON, {"variant": "package", "lr": 0.24}),
    "hybrid-auon": Entry(HybridAuON),
    "hybrid-auon-package": Entry(HybridAuON, {"variant": "package", "lr": 0.24}),
    "normuon": Entry(NorMuon),
    "normuon-paper": Entry(NorMuon, {"variant": "paper"}),
    "adamuon": Entry(AdaMuon),
    "namo": Entry(NAMO),
    "namo-paper": Entry(NAMO, {"variant": "paper"}),
    "namo-d": Entry(NAMOD),
    "dion": Entry(Dion),
    "orth-dion": Entry(OrthDion),
    "dion2": Entry(Dion2),
    "nordion2": Entry(NorDion2),
    "scion": Entry(Scion),
    "scion-unconstrained": Entry(Scion, {"constrained": False}),
    "gluon": Entry(Gluon),
    "root": Entry(ROOT),
    "root-readme": Entry(ROOT, {"variant": "readme"}),
    "aro-sign": Entry(ARO),
    "aro-sign-polar": Entry(ARO, {"rotation": "polar"}),
    "aro-sinkhorn": Entry(ARO, {"base": "sinkhorn"}),
    "aro-adam": Entry(ARO, {"base": "adam"}),
    "conda": Entry(Conda),
    "fismo": Entry(FISMO),
    "swan": Entry(SWAN),
    "drop-muon": Entry(DropMuon),
    "lanton": Entry(LANTON),
    "symmetry-row-norm": Entry(SymmetryCompatible, {"map": "row-norm"}),
    "symmetry-centered-row-norm": Entry(SymmetryCompatible, {"map": "centered-row-norm"}),
    "symmetry-right-spectral": Entry(SymmetryCompatible, {"map": "right-spectral"}),
    "symmetry-left-spectral": Entry(SymmetryCompatible, {"map": "left-spectral"}),
    "lion": Entry(Lion),
    "lion-k": Entry(LionK),
    "amsgrad": Entry(AMSGrad),
    "amsgrad-paper": Entry(AMSGrad, {"variant": "paper"}),
    "adamp": Entry(AdamP),
    "sgdp": Entry(SGDP),
    "adafactor": Entry(Adafactor),
    "lookahead": Entry(Lookahead),
    "lookahead-adam": Entry(Lookahead, {"inner": Adam(), "lr": 1e-3}),
    "diffgrad": Entry(DiffGrad),
    "sophia": Entry(Sophia),
    "shampoo": Entry(Shampoo),
    "shampoo-square": Entry(Shampoo, {"square": True}, "morwani2024new"),
    "soap": Entry(SOAP),
    "galore": Entry(GaLore),
    "online-subspace-descent": Entry(OnlineSubspaceDescent),
    "frugal": Entry(FRUGAL),
    "dct-adamw": Entry(DCTAdamW),
    "trion": Entry(Trion),
    "psgd": Entry(PSGD),
    "psgd-triangular": Entry(PSGD, {"geometry": "triangular"}),
    "psgd-x-shape": Entry(PSGD, {"geometry": "x-shape"}),
    "psgd-low-rank": Entry(PSGD, {"geometry": "low-rank"}),
    "mkor": Entry(MKOR),
    "m-fac": Entry(MFAC),
    "adadagrad": Entry(AdAdaGrad),
    "adadagrad-coordinates": Entry(AdAdaGrad, {"coordinates": True}),
    "random-scaling": Entry(RandomScaling),
    "adaptive-memory": Entry(AdaptiveMemory),
    "adaprelora": Entry(AdaPreLoRA),
}

# A gradient does not determine their steps: each takes a function of the weights among its hyper-parameters.
NEEDS_MORE: dict[str, Entry] = {"sven": Entry(Sven)}


def names(*, more: bool = False) -> list[str]:
    """Return the names that `make` knows; with `more` also of methods that a gradient does not suffice."""
    return [*TABLE, *NEEDS_MORE] if more else list(TABLE)


def make(name: str, **hyper) -> Method:
    """Build a method by name; the name's presets give way to what is passed.

    >>> make("muon-torch").lr, make("gd", lr=0.5).lr
    (0.001, 0.5)
    """
    entry = closest(name, {**TABLE, **NEEDS_MORE}, "method")
    return build(entry.method, {**entry.preset, **hyper}, name)


__all__ = [
    "ARO",
    "FISMO",
    "FRUGAL",
    "LANTON",
    "MFAC",
    "MKOR",
    "NAMO",
    "NAMOD",
    "NEEDS_MORE",
    "PSGD",
    "ROOT",
    "SGDP",
    "SHAPE_FACTORS",
    "SOAP",
    "SWAN",
    "TABLE",
    "AMSGrad",
    "AdAdaGrad",
    "AdaMuon",
    "AdaPreLoRA",
    "Adafactor",
    "Adam",
    "AdamP",
    "AdaptiveMemory",
    "AuON",
    "BlockMethod",
    "Blockwise",
    "Card",
    "Conda",
    "DCTAdamW",
    "DiffGrad",
    "Dion",
    "Dion2",
    "DropMuon",
    "DualScaled",
    "Entry",
    "GaLore",
    "Gluon",
    "GradientDescent",
    "HeavyBall",
    "HybridAuON",
    "Lion",
    "LionK",
    "Lookahead",
    "Method",
    "Muon",
    "Nesterov",
    "NorDion2",
    "NorMuon",
    "NormalizedGD",
    "OnlineSubspaceDescent",
    "OrthDion",
    "PolarGrad",
    "RandomScaling",
    "Scion",
    "Shampoo",
    "ShippedQDWH",
    "SignDescent",
    "Signum",
    "Sophia",
    "Surgery",
    "Sven",
    "SymmetryCompatible",
    "Trion",
    "TrustRegion",
    "lift",
    "make",
    "names",
    "start_law",
]
