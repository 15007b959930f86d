"""Score distillation: a copy of a generator learns from a 2D diffusion model what its scenes look like from all sides.

This is DreamFusion (Poole et al. 2022) in the latent space of a diffusion model, for all scenes of a generator at once.
In every step scenes are rendered from cameras all around, noise is added to the encoded images, and the frozen
diffusion model predicts it from a prompt. The difference between predicted and added noise is the gradient for the
images. A second term keeps the images from the model's own cameras as they were.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from threedgp.camera.geometry import YAW
from threedgp.camera.priors import prior_mean_angles
from threedgp.models.generator import Generator, RenderOptions, tunable_copy
from threedgp.models.inversion import image_distance
from threedgp.models.sampler import draw_scenes
from threedgp.runtime.counter_rng import NumberStream
from threedgp.runtime.errors import UserError

MIN_TIME, MAX_TIME = 0.02, 0.98
"""Range of timesteps, as fractions of their number (DreamFusion, section 3)."""
PIPELINE, INDEX = "StableDiffusionPipeline", "model_index.json"
MAX_REASON = 200
"""Characters of an error message of diffusers; some list every weight."""


class Settings(NamedTuple):
    """Settings of a refinement."""

    prompt: str
    """`{class}` stands for the name of a scene's class."""
    steps: int
    batch: int
    """Scenes per step."""
    learning_rate: float
    guidance: float
    """Scale of classifier-free guidance; 1 = none."""
    keep: float
    """Weight of the distance to the images of the original model."""
    timesteps: str
    """`uniform` or `annealed`, see `draw_timesteps`."""
    views: bool
    """Whether the prompt names the side that is seen."""
    size: int
    """Pixels along each side of the rendered images."""
    seed: int


def require_diffusers() -> None:
    """Raise UserError if the packages that run diffusion models are not installed."""
    try:
        import diffusers  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"refine needs the packages diffusers and transformers ({error}); "
            "run `pip install -c constraints.txt -e .[refine]`."
        ) from None


class Diffusion:
    """A frozen latent diffusion model: text encoder, image encoder and noise predictor, in float32."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Load a folder in the format of diffusers; no code and no pickles of it are used. Raises UserError if it is
        no such folder, or holds another kind of model."""
        import diffusers
        import transformers

        for package in (diffusers, transformers):
            package.utils.logging.set_verbosity_error()
            package.utils.logging.disable_progress_bar()

        def refusal(reason: str) -> UserError:
            return UserError(f"--diffusion: {folder}: {reason}; name a {PIPELINE} in the format of diffusers.")

        def load(network_type: Any, part: str) -> nn.Module:
            options = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
            network, report = network_type.from_pretrained(folder, subfolder=part, **options)
            if missing := sorted(report["missing_keys"]):  # they would be initialized at random
                raise refusal(f"{part} lacks {len(missing)} weights, such as {missing[0]}")
            return network.eval().requires_grad_(False)

        try:
            found = json.loads((folder / INDEX).read_bytes()).get("_class_name")
            if found != PIPELINE:
                raise refusal(f"it is a {found}")
            self.unet = load(diffusers.UNet2DConditionModel, "unet")
            self.vae = load(diffusers.AutoencoderKL, "vae")
            self.text_encoder = load(transformers.CLIPTextModel, "text_encoder")
            self.tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
            scheduler = diffusers.DDPMScheduler.from_pretrained(folder, subfolder="scheduler", local_files_only=True)
            self.prediction = scheduler.config.prediction_type
            if self.prediction not in ("epsilon", "v_prediction"):
                raise refusal(f"its prediction_type is {self.prediction}, not epsilon or v_prediction")
            widths = self.vae.config.latent_channels, self.text_encoder.config.hidden_size
            if (self.unet.config.in_channels, self.unet.config.cross_attention_dim) != widths:
                raise refusal("unet needs other inputs than latents and text, as models for inpainting do")
            reduction = 2 ** (len(self.vae.config.block_out_channels) - 1)
            self.size = reduction * int(self.unet.config.sample_size)
            """Pixels along each side of the images that the model was trained on."""
        except UserError:
            raise
        except Exception as error:  # wrong values in the files raise almost anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:MAX_REASON]
            raise refusal(f"cannot be loaded ({reason})") from None
        for network in (self.unet, self.vae, self.text_encoder):
            network.to(device, torch.float32)
        self.alphas_cumprod: Tensor = scheduler.alphas_cumprod.to(device)

    def encode_text(self, prompts: list[str]) -> Tensor:
        """Embeddings `[B, L, D]` of prompts."""
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(
            prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return self.text_encoder(tokens.to(self.text_encoder.device)).last_hidden_state

    def encode_images(self, images: Tensor) -> Tensor:
        """Latents `[B, C, H, W]` of images `[B, 3, R, R]` in [-1, 1], which are resized first."""
        resized = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        return self.vae.encode(resized).latent_dist.mode() * self.vae.config.scaling_factor

    def noise_levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Factors alpha and sigma of latents and noise at timesteps int64 `[B]`, each `[B, 1, 1, 1]`."""
        squared = self.alphas_cumprod[timesteps][:, None, None, None]
        return squared.sqrt(), (1 - squared).sqrt()

    def predict_noise(self, noisy: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        """The noise in latents `[B, C, H, W]`, predicted from embeddings `[B, L, D]`."""
        output = self.unet(noisy, timesteps, encoder_hidden_states=text).sample
        if self.prediction == "epsilon":
            return output
        alpha, sigma = self.noise_levels(timesteps)  # v = alpha noise - sigma latents (Salimans and Ho 2022)
        return alpha * output + sigma * noisy


def score_distillation(
    diffusion: Diffusion, latents: Tensor, prompts: list[str], timesteps: Tensor, noise: Tensor, guidance: float
) -> Tensor:
    """Scalar whose gradient for the latents is that of score distillation (DreamFusion, equation 3), divided by their
    number: w(t) (predicted noise - noise), with w(t) = sigma(t)^2. Its value is half of the mean square of this.

    Args:
        latents, noise: `[B, C, H, W]`.
        prompts: one for each image.
        timesteps: int64 `[B]`.
        guidance: scale s of classifier-free guidance: the prediction without a prompt, plus s times the difference that
            the prompt makes.
    """
    with torch.no_grad():
        alpha, sigma = diffusion.noise_levels(timesteps)
        noisy = alpha * latents + sigma * noise
        text = diffusion.encode_text([*prompts, *[""] * len(prompts)])
        pair = diffusion.predict_noise(noisy.repeat(2, 1, 1, 1), timesteps.repeat(2), text)
        conditional, unconditional = pair.chunk(2)
        predicted = unconditional + guidance * (conditional - unconditional)
        target = latents - sigma.square() * (predicted - noise)
    return F.mse_loss(latents, target) / 2


def draw_timesteps(u: Tensor, done: float, count: int, how: str) -> Tensor:
    """Timesteps int64 `[B]` of a model with `count` of them.

    `uniform`: uniformly distributed, by uniform numbers `u` `[B]`. `annealed`: falling with the square root of the
    fraction `done` of the refinement (HiFA, Zhu and Zhuang 2023).
    """
    position = u if how == "uniform" else torch.full_like(u, math.sqrt(done))
    return (count * (MAX_TIME - (MAX_TIME - MIN_TIME) * position)).long()


def view_name(yaw: float) -> str:
    """The side that a camera sees, by its angle from the front in radians."""
    cosine = math.cos(yaw)
    return "side view" if abs(cosine) < math.sqrt(0.5) else "front view" if cosine > 0 else "back view"


class Refinement:
    """A copy of a generator and the optimizer that changes it."""

    def __init__(self, original: Generator, diffusion: Diffusion, class_names: list[str], settings: Settings) -> None:
        """`original`, in evaluation mode and of a kind with density, is copied."""
        self.diffusion, self.settings = diffusion, settings
        self.prompts = [settings.prompt.replace("{class}", name) for name in class_names] or [settings.prompt]
        self.front = prior_mean_angles(original.camera_config)[0]
        # The renderer chooses other kernels where gradients are needed, which round differently. With gradients for
        # both, the images of the copy equal those of the original until the first step.
        self.original, self.refined = (tunable_copy(original) for _ in range(2))
        weights = [weight for weight in self.refined.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.Adam(weights, settings.learning_rate, betas=(0.9, 0.99))

    def step(self, number: int) -> tuple[float, float]:
        """Do the step `number`, counted from 0. Its random numbers depend on the number only.

        Returns:
            value of `score_distillation`, and distance to the images of the original.

        Raises:
            UserError: one of them is not finite.
        """
        settings, original = self.settings, self.original
        index = number * settings.batch + torch.arange(settings.batch, device=original.device)
        random = NumberStream(settings.seed, "refinement", index)
        with torch.no_grad():
            z, labels, prior = draw_scenes(original, settings.seed, "refinement", index)
            w, cameras = original.map(z, labels, cameras=prior), original.posterior(prior, z, labels)
            around = cameras.clone()
            around[:, YAW] += 2 * math.pi * random.uniform("yaw")

        expected = original.render(original.make_content(w), cameras, settings.size).rgb.detach()
        content = self.refined.make_content(w)
        kept = image_distance(self.refined.render(content, cameras, settings.size).rgb, expected).mean()
        images = self.refined.render(content, around, settings.size, RenderOptions(random=random)).rgb
        latents = self.diffusion.encode_images(images)
        times = draw_timesteps(
            random.uniform("timestep"), number / settings.steps, len(self.diffusion.alphas_cumprod), settings.timesteps
        )
        noise = random.normal("noise", *latents.shape[1:])
        prompts = self._prompts(labels, around)
        distilled = score_distillation(self.diffusion, latents, prompts, times, noise, settings.guidance)

        values = distilled.item(), kept.item()
        if not all(map(math.isfinite, values)):
            raise UserError(f"refine: step {number} gave a value that is not finite; lower --learning-rate.")
        self.optimizer.zero_grad()
        (distilled + settings.keep * kept).backward()
        self.optimizer.step()
        return values

    def _prompts(self, labels: Tensor | None, cameras: Tensor) -> list[str]:
        """The prompt of each view."""
        prompts = [self.prompts[label] for label in ([0] * len(cameras) if labels is None else labels.tolist())]
        if not self.settings.views:
            return prompts
        angles = (cameras[:, YAW] - self.front).tolist()
        return [f"{prompt}, {view_name(angle)}" for prompt, angle in zip(prompts, angles, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """State between two steps."""
        return {"refined": self.refined.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        self.refined.load_state_dict(state["refined"])
        self.optimizer.load_state_dict(state["optimizer"])
