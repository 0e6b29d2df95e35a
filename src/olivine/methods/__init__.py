"""Pretraining methods, one folder each, and the choice between them."""

from typing import TypeAlias

from olivine.methods.base import Method, Views
from olivine.methods.olivine.config import OlivineConfig

# pydantic tells two or more apart with `Annotated[OlivineConfig | NextConfig, Field(discriminator="name")]`, and
# accepts that form for no fewer than two.
MethodConfig: TypeAlias = OlivineConfig
"""The choice of method in a recipe, told apart by `name`; each has `build(backbone, in_channels, weak_classes)`."""

__all__ = ["Method", "MethodConfig", "OlivineConfig", "Views"]
