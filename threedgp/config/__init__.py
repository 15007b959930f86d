"""Typed, validated view of ``params.yaml``.

Every setting of the pipeline is a field of a section here. The defaults are the published configuration of 3DGP on
ImageNet (Skorokhodov et al. 2023), and presets state only their differences. Unknown keys, values out of range and
contradictory settings are errors that name the key.
"""

from threedgp.config.data import (
    DatasetConfig,
    DepthConfig,
    DownloadConfig,
    EmbedConfig,
    FeaturesConfig,
    PrepareConfig,
    SelectConfig,
    ShardsConfig,
)
from threedgp.config.kinds import KINDS
from threedgp.config.model import CameraConfig, DepthAdaptorConfig, DiscriminatorConfig, GeneratorConfig, ModelConfig
from threedgp.config.results import EvaluateConfig, RenderConfig, ReportConfig
from threedgp.config.root import Config, MachineConfig, batch_problem, load_config, parse_config
from threedgp.config.train import TrainConfig

__all__ = [
    "KINDS",
    "CameraConfig",
    "Config",
    "DatasetConfig",
    "DepthAdaptorConfig",
    "DepthConfig",
    "DiscriminatorConfig",
    "DownloadConfig",
    "EmbedConfig",
    "EvaluateConfig",
    "FeaturesConfig",
    "GeneratorConfig",
    "MachineConfig",
    "ModelConfig",
    "PrepareConfig",
    "RenderConfig",
    "ReportConfig",
    "SelectConfig",
    "ShardsConfig",
    "TrainConfig",
    "batch_problem",
    "load_config",
    "parse_config",
]
