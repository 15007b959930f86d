"""3D generation on ImageNet: learning 3D scenes from plain photographs, many categories, unaligned."""

__version__ = "0.1.0"
