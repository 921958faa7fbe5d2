"""The recipes of FFCV's ImageNet results, and ffx's own, for any number of epochs; what FFCV reports of twelve of them.

Their hyper-parameters were searched for at 30 epochs. For another number of epochs the schedule is stretched: the
learning rate peaks at the same epoch and falls to 0 at the last one, and resolution begins to grow after three quarters
of the training and has grown after seven eighths (an epoch earlier each, as epochs count from 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = [
    "PUBLISHED",
    "VARIANTS",
    "Published",
    "config_text",
    "make_config",
    "published_by_uuid",
    "shipped_configs",
]

_PEAK_EPOCH = 2


@dataclass(frozen=True)
class Published:
    """One row of FFCV's table: shares and minutes as reported by FFCV, on 8 A100 (ResNet-50) or one (ResNet-18)."""

    arch: str
    epochs: int
    uuid: str
    top_1: float
    top_5: float
    minutes: float

    @property
    def setup(self) -> str:
        """What FFCV ran it on."""
        return f"{8 if self.arch == 'rn50' else 1} x A100"


PUBLISHED = (
    Published("rn50", 88, "23cf4c2e-2111-472c-8b9d-e47325c51253", 0.780, 0.941, 69.9),
    Published("rn50", 56, "a2e443e4-0a42-49b5-a1f4-18f19689b2b1", 0.773, 0.937, 44.6),
    Published("rn50", 40, "70a2ecb0-1719-40bd-b1eb-cb0c37b8fc89", 0.763, 0.932, 32.2),
    Published("rn50", 32, "2eca7655-82df-4e4a-b51b-950b31c2bebe", 0.754, 0.927, 25.9),
    Published("rn50", 24, "c01efd78-d20b-4064-a9a8-aa0274430e60", 0.746, 0.921, 19.6),
    Published("rn50", 16, "2018a9be-f0ec-453c-9a00-bfd68dc94d58", 0.724, 0.908, 13.4),
    Published("rn18", 88, "67117b5b-ab11-45c2-87a6-9999a66a3f37", 0.715, 0.903, 189.7),
    Published("rn18", 56, "1a584c27-fdd0-483b-b358-dd9895e510da", 0.707, 0.899, 117.9),
    Published("rn18", 40, "8249f454-c718-4a38-8dae-04effa3a43de", 0.698, 0.894, 85.4),
    Published("rn18", 32, "baefac94-ed5c-4b0b-af01-ebead347ca46", 0.690, 0.889, 68.4),
    Published("rn18", 24, "05b0053a-c036-4992-9c4e-f9ea662abfc5", 0.679, 0.881, 51.2),
    Published("rn18", 16, "08508b1c-ae7f-4022-9090-06a520f998c8", 0.655, 0.868, 34.8),
)
_EPOCHS = (16, 24, 32, 40, 56, 88)

# What is added to FFCV's published recipe.
VARIANTS = {
    "ffcv": "FFCV's published recipe",
    "blurpool": "with BlurPool, as FFCV's later recipe has it",
    "ffx": "with BlurPool and four additions more: docs/recipes.md",
    "ffx_muon": "the same, trained by Muon (pip install pytorch_optimizer)",
}
# Rate, momentum and decay as measured on small data with batches of 64: all but the network's last layer and vectors.
_MUON = {"lr": {"lr": 0.02}, "training": {"optimizer": "muon", "momentum": 0.95, "weight_decay": 0.01}}

_ARCHITECTURES: dict[str, dict[str, dict[str, Any]]] = {
    "rn50": {
        "model": {"arch": "resnet50"},
        "lr": {"lr": 1.7},
        "training": {"batch_size": 512, "weight_decay": "0.0001", "distributed": 1},
        "dist": {"world_size": 8},
        # A moving average over the last two epochs or less, by how many steps an epoch has.
        "recipe": {"ema": 0.998},
    },
    "rn18": {
        "model": {"arch": "resnet18"},
        "lr": {"lr": 0.5},
        # In this notation, because YAML in Python reads 5e-5 as text.
        "training": {"batch_size": 1024, "weight_decay": "0.00005", "distributed": 0},
        "dist": {"world_size": 1},
        "recipe": {"ema": 0.999},
    },
}


def published_by_uuid(uuid: str) -> Published | None:
    """FFCV's row for a configuration's name, or `None`."""
    return next((row for row in PUBLISHED if row.uuid == uuid), None)


def make_config(arch: str, epochs: int, variant: str = "ffcv") -> dict[str, dict[str, Any]]:
    """The recipe for `rn50` or `rn18` in one of `VARIANTS`, stretched to `epochs`: options by section."""
    own, is_ffx = _ARCHITECTURES[arch], variant.startswith("ffx")
    config = {
        "model": own["model"],
        "resolution": {
            "min_res": 160,
            "max_res": 196,
            "start_ramp": max(0, _rounded(3 * epochs / 4) - 1),
            "end_ramp": max(0, _rounded(7 * epochs / 8) - 1),
        },
        "data": {"num_workers": 12, "in_memory": 1},
        # A training of one or two epochs has to come down, too.
        "lr": {**own["lr"], "lr_schedule_type": "cyclic", "lr_peak_epoch": min(_PEAK_EPOCH, epochs // 2)},
        "training": {
            "epochs": epochs,
            "optimizer": "sgd",
            "momentum": 0.9,
            "label_smoothing": 0.1,
            **own["training"],
            "use_blurpool": int(variant != "ffcv"),
            **({"nesterov": 1, "no_decay": "norms_and_biases"} if is_ffx else {}),
        },
        "validation": {"resolution": 256, "lr_tta": 1},
        "dist": own["dist"],
    }
    if variant == "ffx_muon":
        config |= {section: {**config[section], **options} for section, options in _MUON.items()}
    return {**config, "recipe": {**own["recipe"], "alternating_flip": 1}} if is_ffx else config


def _rounded(value: float) -> int:
    return int(value + 0.5)


def config_text(arch: str, epochs: int, variant: str = "ffcv") -> str:
    """The recipe as a YAML file."""
    row = next((row for row in PUBLISHED if (row.arch, row.epochs) == (arch, epochs)), None)
    ffx = ", ffx's recipe"
    kinds = {"ffcv": "", "blurpool": " with BlurPool", "ffx": ffx, "ffx_muon": f"{ffx} with Muon"}
    name = {"rn50": "ResNet-50", "rn18": "ResNet-18"}[arch] + kinds[variant]
    lines = [f"# {name}, {epochs} epochs; made by examples/imagenet/make_config.py."]
    if variant.startswith("ffx"):
        lines.append("# Chosen on small data (docs/recipes.md); not trained on ImageNet yet.")
    if row and variant == "ffcv":
        scores = f"top-1 {row.top_1:.3f}, top-5 {row.top_5:.3f}"
        lines.append(f"# Reported by FFCV: {scores}, {row.minutes} minutes on {row.setup}.")
    for section, options in make_config(arch, epochs, variant).items():
        lines.append(f"{section}:")
        lines.extend(f"  {key}: {value}" for key, value in options.items())
    return "\n".join(lines) + "\n"


def shipped_configs() -> dict[str, str]:
    """Every configuration file of the repository: path from its root -> text."""
    files = {f"{row.arch}_configs/{row.uuid}.yaml": config_text(row.arch, row.epochs) for row in PUBLISHED}
    for arch in _ARCHITECTURES:
        for epochs in _EPOCHS:
            for variant in ("blurpool", "ffx", "ffx_muon"):
                files[f"{arch}_configs/{variant}_{epochs}.yaml"] = config_text(arch, epochs, variant)
    return files
