"""Which engine a device has."""

import importlib.util

import pytest
import torch

from olivine.errors import UserError
from olivine.sparse.engines import engine_on, spconv, triton_engine
from olivine.sparse.engines.reference import Reference
from olivine.sparse.engines.spconv import Spconv

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def nobody_asked(monkeypatch):
    monkeypatch.delenv("OLIVINE_GPU_ENGINE", raising=False)


def installed(monkeypatch, answer):
    monkeypatch.setattr(spconv, "_has_gpu_build", lambda: answer)


@pytest.mark.parametrize(("there", "kind"), [(True, Spconv), (False, Reference)])
def test_unasked_a_gpu_has_spconv_where_it_is_installed_and_never_what_was_not_proved(monkeypatch, there, kind):
    installed(monkeypatch, there)
    assert type(engine_on(GPU)) is kind


def test_a_gpu_has_what_was_asked_for_and_other_devices_do_not(monkeypatch):
    pytest.importorskip("triton")
    installed(monkeypatch, True)
    for asked, kind in (("pytorch", Reference), ("spconv", Spconv), ("triton", type(triton_engine()))):
        monkeypatch.setenv("OLIVINE_GPU_ENGINE", asked)
        assert type(engine_on(GPU)) is kind
        assert type(engine_on(torch.device("meta"))) is Reference
        assert type(engine_on(torch.device("cpu"))) is not type(triton_engine())


def test_what_cannot_be_had_is_refused(monkeypatch):
    installed(monkeypatch, False)
    monkeypatch.setenv("OLIVINE_GPU_ENGINE", "cutlass")
    with pytest.raises(UserError, match="OLIVINE_GPU_ENGINE=cutlass: there is no such engine"):
        engine_on(GPU)
    monkeypatch.setenv("OLIVINE_GPU_ENGINE", "spconv")
    with pytest.raises(UserError, match="no spconv for GPUs is installed"):
        engine_on(GPU)
    monkeypatch.setenv("OLIVINE_GPU_ENGINE", "triton")
    triton_engine.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"olivine\[gpu\]"):
        engine_on(GPU)
