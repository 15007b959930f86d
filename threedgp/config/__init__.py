"""Typed, validated view of ``params.yaml``.

Every setting of the pipeline is a field here, with its default. The defaults are the published configuration of
3DGP on ImageNet (arXiv 2303.01416), so that a preset states only how it differs. Unknown keys, wrong units and
impossible combinations are errors that name the key.
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
from threedgp.config.model import CameraConfig, DepthAdaptorConfig, DiscriminatorConfig, GeneratorConfig, ModelConfig
from threedgp.config.results import EvaluateConfig, RenderConfig, ReportConfig
from threedgp.config.root import Config, MachineConfig, batch_problem, load_config, parse_config
from threedgp.config.train import TrainConfig

__all__ = [
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
