"""DPT (Ranftl et al., arXiv 2103.13413)."""

from threedgp.depth.estimators._transformers import transformers_kind

ESTIMATOR = transformers_kind(
    "dpt",
    output="inverse depth up to scale and shift; metric depth with the models on DINOv2",
    weights="Intel/dpt-large",
    license="Apache-2.0",
    # Models on DINOv2 were trained on metric depth, all others on the inverse depth of MiDaS.
    is_inverse=lambda config: (
        not str(getattr(getattr(config, "backbone_config", None), "model_type", "")).startswith("dinov2")
    ),
)
