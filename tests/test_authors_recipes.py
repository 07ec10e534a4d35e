"""The recipes against the numbers of the authors' run.sh (David-cripto/RealUID b61c1c3), and descriptions of public
teachers against the published architectures."""

from pathlib import Path

import pytest
import torch

from realuid.config import build, load, load_part
from realuid.models.matching import matching_model_of
from realuid.networks.edm2_unet import EDM2UNet
from realuid.networks.edm_unet import DhariwalUNet, SongUNet
from realuid.networks.no_init_weights import no_init_weights
from realuid.pretrained import edm
from realuid.pretrained.conventions import NETWORKS

GIN = Path(__file__).parents[1] / "gin"
LONG, SHORT = 800_000, 100_000
RUN_SH = {  # alpha, beta, batch, rate, iterations, warm-up in updates, student's average (None: the teacher)
    "fm_cifar10": (0.92, 0.94, 256, 3e-5, LONG, 500, None),
    "fm_cifar10_cond": (0.98, 0.96, 256, 3e-5, LONG, 500, None),
    "fm_celeba64": (0.90, 0.88, 64, 5e-6, 2 * LONG, 500, None),
    "fm_cifar10_finetune": (0.92, 0.86, 256, 1e-5, SHORT, 0, "0.999"),
    "fm_cifar10_cond_finetune": (0.94, 1.00, 256, 1e-5, SHORT, 0, "0.9999"),
}


@pytest.mark.parametrize("name", RUN_SH)
def test_the_numbers_of_run_sh(name):
    alpha, beta, batch, rate, iterations, warm_up, average = RUN_SH[name]
    with no_init_weights():
        trainer = build(load([GIN / f"{name}.gin"]))
    p = trainer.method
    assert (p.loss.alpha, p.loss.beta, trainer.batch, p.real_batch) == (alpha, beta, batch, batch)
    assert abs(trainer.steps - iterations / 6) < 1
    assert p.updates.fake_steps == 5
    for optimizer, updates in ((p.student_optimizer, 1), (p.fake_optimizer, 5)):
        assert (optimizer.lr, optimizer.betas, optimizer.eps) == (rate, (0.0, 0.999), 1e-8)
        assert (optimizer.weight_decay, optimizer.clip) == (0.0, 1.0)
        assert optimizer.lr_schedule.warm_up * updates == warm_up * batch
    assert p.ema.names == ["0.999", "0.9996", "0.9999"]
    assert p.fake_init == ("teacher" if average else "random")
    assert (p.student_init == "teacher") == (average is None)
    assert (p.student_init_ema or "0.999") == (average or "0.999")
    assert not any(m.p for m in p.student.modules() if isinstance(m, torch.nn.Dropout))


SMALL = {"label_dim": 1000, "img_resolution": 64}
PUBLIC = {  # NVlabs' own arguments of the published networks (train.py of edm, training/ of edm2)
    "edm_imagenet64": (
        DhariwalUNet,
        {**SMALL, "in_channels": 3, "out_channels": 3, "model_channels": 192, "channel_mult": [1, 2, 3, 4]},
    ),
    "edm_cifar10_cond_vp": (
        SongUNet,
        {
            "img_resolution": 32,
            "in_channels": 3,
            "out_channels": 3,
            "label_dim": 10,
            "embedding_type": "positional",
            "encoder_type": "standard",
            "decoder_type": "standard",
            "channel_mult_noise": 1,
            "resample_filter": [1, 1],
            "model_channels": 128,
            "channel_mult": [2, 2, 2],
        },
    ),
    "edm2_s_imagenet64": (EDM2UNet, {**SMALL, "img_channels": 3, "model_channels": 192}),
    "edm2_s_imagenet512": (EDM2UNet, {**SMALL, "img_channels": 4, "model_channels": 192}),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_descriptions_have_the_published_architectures(name):
    kind, published = PUBLIC[name]
    arguments = edm._arguments("UNet" if kind is EDM2UNet else kind.__name__, published)
    with torch.device("meta"):
        right = kind(**arguments)
    with no_init_weights():
        network = matching_model_of(build(load_part(GIN / "teachers" / f"{name}.gin", root="Teacher")).model).network
    assert type(network).__name__ in NETWORKS
    assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in right.state_dict().items()}
    heads = [m.heads for m in right.modules() if hasattr(m, "heads")]
    assert [m.heads for m in network.modules() if hasattr(m, "heads")] == heads
