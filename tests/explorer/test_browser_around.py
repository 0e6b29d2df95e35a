"""In a real browser: what several visitors, several runs and several frames bring; and what must stay outside."""

from __future__ import annotations

import re
import shutil

import pytest
import torch

from explorer.test_browser import browser, colourful, explorer, looking, until, visit  # noqa: F401 (fixtures)
from olivine.backbones import MinkUNetConfig
from olivine.engine.checkpoint import Checkpoint
from olivine.explorer.moments import Moments
from olivine.explorer.opening import open_subject
from olivine.explorer.stage import Stage
from olivine.explorer.view import View
