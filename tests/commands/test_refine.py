"""Refinement with score distillation, from tiny diffusion models with random weights."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from threedgp.camera.geometry import YAW
from threedgp.commands import refine
from threedgp.models import refinement
from threedgp.models.generator import Generator
from threedgp.models.initialization import initial_generator
from threedgp.models.loading import load_model
from threedgp.models.refinement import Diffusion, Refinement, Settings, draw_timesteps, score_distillation, view_name
from threedgp.models.saving import write_model
from threedgp.runtime.errors import UserError
from training.worlds import kind_config

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")

CPU = torch.device("cpu")
SETTINGS = Settings("a {class}", 4, 2, 1e-3, 7.5, 1.0, "uniform", views=True, size=16, seed=0)
OPTIONS = ("--batch", 2, "--guidance", 7.5, "--device", "cpu")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusion model for images of 16 pixels, in the files of Stable Diffusion."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    sizes = dict(layers_per_block=1, norm_num_groups=4)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        **sizes,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        **sizes,
    )
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=32)
    layers = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    text = transformers.CLIPTextConfig(vocab_size=len(words), max_position_embeddings=32, **layers)
    diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def diffusion(teacher: Path) -> Diffusion:
    return Diffusion(teacher, CPU)


def changed(folder: Path, target: Path, part: str, **values: object) -> Path:
    """A copy of a diffusion model with other values in one of its configurations."""
    shutil.copytree(folder, target)
    file = target / part
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    return target


def naive_noise(teacher: Path, noisy: Tensor, times: Tensor, prompts: list[str], scale: float) -> Tensor:
    """Classifier-free guidance as the pipeline of diffusers does it, one image at a time."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(teacher, safety_checker=None)
    found = []
    for one, time, prompt in zip(noisy, times, prompts, strict=True):
        texts = pipeline.encode_prompt(prompt, CPU, 1, True, "")
        full, empty = (pipeline.unet(one[None], time, encoder_hidden_states=text).sample for text in texts)
        found.append(empty + scale * (full - empty))
    return torch.cat(found)


def test_gradient_of_images_is_that_of_the_paper(teacher: Path, diffusion: Diffusion) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 24, 24, generator=generator, requires_grad=True)
    noise, times = torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([100, 700])
    prompts = ["a box, front view", "a ball, back view"]
    latents = diffusion.encode_images(images)
    loss = score_distillation(diffusion, latents, prompts, times, noise, 7.5)
    (found,) = torch.autograd.grad(loss, images, retain_graph=True)

    kept = diffusers.DDIMScheduler.from_pretrained(teacher, subfolder="scheduler")
    with torch.no_grad():
        predicted = naive_noise(teacher, kept.add_noise(latents, noise, times), times, prompts, 7.5)
        weight = 1 - kept.alphas_cumprod[times][:, None, None, None]
        direction = weight * (predicted - noise)
    (expected,) = torch.autograd.grad(latents, images, direction / latents.numel())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())
    assert loss.item() == pytest.approx(direction.square().mean().item() / 2, rel=1e-4)
    without = score_distillation(diffusion, latents, prompts, times, noise, 0.0)
    assert abs(without.item() - loss.item()) > 1e-3 * loss.item(), "the prompt makes no difference"


def test_models_that_predict_velocity(teacher: Path, tmp_path: Path, diffusion: Diffusion) -> None:
    velocity = Diffusion(
        changed(teacher, tmp_path / "v", "scheduler/scheduler_config.json", prediction_type="v_prediction"), CPU
    )
    noisy, times = torch.randn(2, 4, 8, 8), torch.tensor([20, 980])
    text = diffusion.encode_text(["a", "b"])
    output = diffusion.predict_noise(noisy, times, text)
    scheduler = diffusers.DDPMScheduler.from_pretrained(tmp_path / "v", subfolder="scheduler")
    found = velocity.predict_noise(noisy, times, text)
    # The clean latents that follow from the noise are those that diffusers finds from the velocity.
    for number, time in enumerate(times):
        alpha = scheduler.alphas_cumprod[time]
        clean = (noisy - (1 - alpha).sqrt() * found)[number] / alpha.sqrt()
        expected = scheduler.step(output[number], time, noisy[number]).pred_original_sample
        torch.testing.assert_close(clean, expected, rtol=1e-3, atol=1e-3)


def test_timesteps_and_views() -> None:
    u = torch.tensor([0.0, 0.5, 0.9999999])
    assert draw_timesteps(u, 0.3, 1000, "uniform").tolist() == [980, 500, 20]
    assert [draw_timesteps(u[:1], done, 1000, "annealed").item() for done in (0.0, 0.25, 1.0)] == [980, 500, 20]
    angles = {0: "front", 40: "front", -40: "front", 50: "side", 130: "side", -130: "side", 140: "back", 180: "back"}
    assert {angle: view_name(math.radians(angle + 360)).split()[0] for angle in angles} == angles


def weights(generator: Generator) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in generator.state_dict().items()}


def test_steps_change_what_makes_scenes_and_nothing_else(tiny_generator: Generator, diffusion: Diffusion) -> None:
    before = weights(tiny_generator)
    work = Refinement(tiny_generator, diffusion, ["box", "ball"], SETTINGS)
    values = [work.step(number) for number in range(3)]
    assert values[0][1] == 0 < values[2][1], "the distance to the original"
    after = weights(work.refined)
    assert all(torch.equal(value, before[name]) for name, value in weights(tiny_generator).items())
    same = {name for name, value in after.items() if torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in same} >= {"mapping", "camera_generator", "depth_adaptor"}
    assert all(name not in same for name in after if name.startswith(("backbone.layers", "decoder.")))


def test_keeping_alone_changes_nothing_and_restores(
    tiny_generator: Generator, diffusion: Diffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "score_distillation", lambda diffusion, latents, *rest: 0 * latents.sum())
    work = Refinement(tiny_generator, diffusion, ["box", "ball"], SETTINGS)
    assert [work.step(number) for number in range(2)] == [(0, 0)] * 2
    assert all(torch.equal(value, weights(tiny_generator)[name]) for name, value in weights(work.refined).items())
    with torch.no_grad():
        work.refined.decoder.output.bias.add_(0.5)
    distances = [work.step(number)[1] for number in range(30)]
    assert distances[-1] < 0.9 * distances[0]


class Black:
    """A diffusion model that believes that all images are black: it predicts the noise relative to black latents."""

    alphas_cumprod = torch.linspace(0.999, 0.01, 1000)
    noise_levels = Diffusion.noise_levels

    def encode_text(self, prompts: list[str]) -> Tensor:
        assert prompts[0].startswith(("a box, ", "a ball, ")) and prompts[-1] == ""
        return torch.zeros(len(prompts), 1, 1)

    def encode_images(self, images: Tensor) -> Tensor:
        return images

    def predict_noise(self, noisy: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        alpha, sigma = self.noise_levels(timesteps)
        return (noisy + alpha) / sigma


@pytest.mark.parametrize("kind", ["3dgp", "eg3d", "volumegan", "stylenerf"])
def test_distillation_moves_images_towards_what_the_model_predicts(kind: str) -> None:
    config = kind_config(kind)
    generator = initial_generator(config.camera, config.model, 2, [0.5, 0.5], seed=0).eval().requires_grad_(False)
    work = Refinement(generator, Black(), ["box", "ball"], SETTINGS._replace(keep=0.0, learning_rate=5e-3))
    z = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    w, camera = generator.map(z, torch.tensor([0, 1, 0, 1])), generator.prior(torch.full((4, 6), 0.5))
    camera[:, YAW] += torch.tensor([0.0, 1.5, 3.0, 4.5])

    def error() -> float:
        with torch.no_grad():
            return work.refined.render(work.refined.make_content(w), camera, 16).rgb.add(1).square().mean().item()

    before = error()
    for number in range(20):
        work.step(number)
    assert error() < 0.8 * before


def test_values_that_are_not_finite_stop_the_refinement(
    tiny_generator: Generator, diffusion: Diffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refinement, "score_distillation", lambda diffusion, latents, *rest: latents.sum() * math.nan)
    work = Refinement(tiny_generator, diffusion, ["box", "ball"], SETTINGS)
    with pytest.raises(UserError, match=r"step 7 gave a value that is not finite; lower --learning-rate"):
        work.step(7)
    assert all(torch.equal(value, weights(tiny_generator)[name]) for name, value in weights(work.refined).items())


def test_command(teacher, model_folder, tmp_path, threedgp, refused, monkeypatch) -> None:
    words = ("refine", model_folder, "--diffusion", teacher, *OPTIONS, "--steps", 4)
    whole = threedgp(*words, "--out", tmp_path / "whole")
    assert whole.code == 0, whole.err
    assert "refine: 4/4 steps" in whole.out and "distillation" in whole.out
    assert sorted(file.name for file in (tmp_path / "whole").iterdir()) == ["config.json", "model.safetensors"]
    original, result = load_model(model_folder), load_model(tmp_path / "whole")
    assert not torch.equal(original.decoder.output.bias, result.decoder.output.bias)

    # Stopped in the third step; the same command continues from the second.
    monkeypatch.setattr(refine, "SAVE_STEPS", 2)
    real, seen = Refinement.step, []

    def stopping(self: Refinement, number: int) -> tuple[float, float]:
        seen.append(number)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(self, number)

    monkeypatch.setattr(Refinement, "step", stopping)
    assert threedgp(*words, "--out", tmp_path / "halves").code == 130
    assert "other settings" in refused(*words, "--seed", 1, "--out", tmp_path / "halves")
    assert threedgp(*words, "--out", tmp_path / "halves").code == 0
    assert seen == [0, 1, 2, 2, 3]
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "halves" / refine.STATES).exists()

    assert "already" in threedgp(*words, "--out", tmp_path / "whole").out
    assert "holds another model" in refused(*words, "--keep", 3, "--out", tmp_path / "whole")
    assert "holds another model" in refused(*words, "--out", model_folder)

    # The result is a model like any other, which says what it is.
    for command in (["generate", "--seeds", 0], ["fly", "--seeds", 0, "--path", "orbit", "--frames", 2]):
        assert threedgp(command[0], tmp_path / "whole", *command[1:], "--out", tmp_path / "seen").code == 0
    about = " ".join(threedgp("info", tmp_path / "whole").out.split())
    assert "4 steps of score distillation from" in about and "prompt 'a photo of a {class}'" in about
    twice = threedgp(*words[:1], tmp_path / "whole", *words[2:], "--out", tmp_path / "twice")
    assert twice.code == 0, twice.err
    assert len(json.loads((tmp_path / "twice/config.json").read_text())["refined"]) == 2
    card = threedgp("push", tmp_path / "twice", "ann/refined", "--to-folder", tmp_path / "card")
    assert card.code == 0 and "| refinement | " in (tmp_path / "card/README.md").read_text()


def test_refusals(teacher, model_folder, tmp_path, refused, monkeypatch) -> None:
    def message(folder: Path) -> str:
        return refused("refine", model_folder, "--diffusion", folder, "--out", tmp_path / "out")

    assert "--diffusion: " in (text := message(tmp_path / "no" / "such")) and "model_index.json" in text
    assert f"{model_folder} is not a folder with a model_index.json" in message(model_folder)
    other = changed(teacher, tmp_path / "xl", "model_index.json", _class_name="StableDiffusionXLPipeline")
    assert "it is a StableDiffusionXLPipeline; name a StableDiffusionPipeline" in message(other)
    other = changed(teacher, tmp_path / "wide", "vae/config.json", latent_channels=5)
    assert "cannot be loaded (RuntimeError: " in (text := message(other)) and len(text) < 500
    config = diffusers.UNet2DConditionModel.load_config(teacher, subfolder="unet")
    inpainting = diffusers.UNet2DConditionModel.from_config(config | {"in_channels": 9})
    inpainting.save_pretrained(other := shutil.copytree(teacher, tmp_path / "inpainting") / "unet")
    assert "models for inpainting" in message(other.parent)
    other = changed(teacher, tmp_path / "x0", "scheduler/scheduler_config.json", prediction_type="sample")
    assert "prediction_type is sample" in message(other)
    other = shutil.copytree(teacher, tmp_path / "pickle")
    state = torch.nn.Linear(1, 1).state_dict()
    torch.save(state, other / "unet/diffusion_pytorch_model.bin")
    (other / "unet/diffusion_pytorch_model.safetensors").unlink()
    assert "no file named diffusion_pytorch_model.safetensors" in message(other)
    other = changed(teacher, tmp_path / "deeper", "unet/config.json", layers_per_block=2)
    assert "unet lacks" in message(other)

    config = json.loads((model_folder / "config.json").read_text())
    plain = shutil.copytree(model_folder, tmp_path / "plain")
    (plain / "config.json").write_text(json.dumps(config | {"refined": [{"prompt": 1}]}))
    assert "refined" in refused("refine", plain, "--diffusion", teacher)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert "pip install -c constraints.txt -e .[refine]" in message(teacher)


def test_model_without_classes_needs_a_plain_prompt(teacher, tmp_path, tiny_generator, threedgp, refused) -> None:
    generator = initial_generator(tiny_generator.camera_config, tiny_generator.model_config, 0, None, seed=0)
    about = dict(resolution=16, class_names=[], seed=0, kimg=1)
    write_model(tmp_path / "model", generator, **about)
    words = ("refine", tmp_path / "model", "--diffusion", teacher, *OPTIONS, "--steps", 1, "--out", tmp_path / "out")
    assert "write a prompt without {class}" in refused(*words)
    outcome = threedgp(*words, "--prompt", "a toy", "--no-views", "--timesteps", "annealed", "--size", 24)
    assert outcome.code == 0, outcome.err
    note = json.loads((tmp_path / "out/config.json").read_text())["refined"][0]
    assert (note["prompt"], note["views"], note["timesteps"], note["size"]) == ("a toy", False, "annealed", 24)
