"""Generated scenes: values, independence of batches, resumption."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from threedgp.camera.geometry import rays
from threedgp.camera.normals import depth_normals
from threedgp.camera.priors import frontal_cameras
from threedgp.depth.estimator import Estimate, Rejected
from threedgp.evaluation import scenes as scenes_module
from threedgp.evaluation.scenes import StoredScenes, estimated_depth, frontal_depth, generate, nfs_depth, view_pairs
from threedgp.evaluation.streams import Stream
from threedgp.metrics import views
from threedgp.models.generator import Generator, Rendering, RenderOptions
from threedgp.models.initialization import initial_generator
from threedgp.models.sampler import sample_scenes
from threedgp.runtime.counter_rng import uniform
from threedgp.runtime.processes import ProcessGroup


def column(scenes: StoredScenes, name: str) -> np.ndarray:
    return np.concatenate(list(scenes.column(name)))


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(scenes_module, "CHUNK", 4)


def test_scenes_depend_on_the_seed_alone(tiny_generator, tmp_path, small_chunks):
    made = generate(tiny_generator, 10, 3, 8, batch_size=4, folder=tmp_path, label="test")
    assert len(made.column("image")) == 10
    images, depth = column(made, "image"), column(made, "depth")
    assert images.shape == (10, 3, 8, 8)
    assert images.dtype == np.uint8
    assert depth.shape == (10, 1, 8, 8)
    assert depth.min() >= tiny_generator.camera_config.ray_start

    scenes = sample_scenes(tiny_generator, 10, 3)
    np.testing.assert_array_equal(made.whole("label"), scenes.labels)
    np.testing.assert_allclose(made.whole("prior"), scenes.prior_cameras, rtol=1e-6)
    posterior = tiny_generator.posterior(scenes.prior_cameras, scenes.z, scenes.labels)
    np.testing.assert_allclose(made.whole("camera"), posterior, rtol=1e-4, atol=1e-5)
    planes = tiny_generator.make_content(tiny_generator.map(scenes.z, scenes.labels))
    rgb = (tiny_generator.render(planes, posterior, 8).rgb.clamp(-1, 1) + 1) * 127.5
    assert np.abs(images - rgb.numpy()).max() <= 0.51  # rounded


def test_batch_size_does_not_change_the_scenes(tiny_generator, tmp_path):
    whole, split = (
        generate(tiny_generator, 6, 0, 8, batch_size=size, folder=tmp_path / str(size), label="test") for size in (6, 4)
    )
    # Matrix products of other sizes add in another order.
    np.testing.assert_allclose(column(whole, "depth"), column(split, "depth"), rtol=1e-4)
    assert np.abs(column(whole, "image").astype(int) - column(split, "image")).max() <= 1


def test_processes_and_threads_write_the_same_bytes(tiny_generator, tmp_path, small_chunks):
    arguments = dict(batch_size=2, label="test")
    generate(tiny_generator, 10, 0, 8, folder=tmp_path / "one", **arguments)
    for rank in range(2):
        shared = generate(
            tiny_generator, 10, 0, 8, folder=tmp_path / "two", workers=3, group=ProcessGroup(rank, 2), **arguments
        )
        assert len(list((tmp_path / "two").iterdir())) == 2 + rank  # of three files the first two are of the first
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    assert len(shared.column("image").head(99)) == 10


def test_finished_files_are_kept(tiny_generator, tmp_path, small_chunks, monkeypatch):
    sample_scenes, made = scenes_module.sample_scenes, []

    def stopped(*arguments, start):
        if start >= 8:
            raise KeyboardInterrupt
        return sample_scenes(*arguments, start=start)

    def counted(*arguments, start):
        made.append(start)
        return sample_scenes(*arguments, start=start)

    monkeypatch.setattr(scenes_module, "sample_scenes", stopped)
    with pytest.raises(KeyboardInterrupt):
        generate(tiny_generator, 10, 0, 8, batch_size=4, folder=tmp_path / "a", label="test")
    monkeypatch.setattr(scenes_module, "sample_scenes", counted)
    generate(tiny_generator, 10, 0, 8, batch_size=4, folder=tmp_path / "a", label="test")
    assert made == [8]
    generate(tiny_generator, 10, 0, 8, batch_size=4, folder=tmp_path / "b", label="test")
    for file in (tmp_path / "b").iterdir():
        assert file.read_bytes() == (tmp_path / "a" / file.name).read_bytes()


def test_frontal_depth_takes_the_frontal_camera_through_the_camera_generator(tiny_generator):
    depth = np.concatenate([*frontal_depth(tiny_generator, 3, 0, 8, batch_size=2)])
    assert depth.shape == (3, 8, 8)
    scenes = sample_scenes(tiny_generator, 3, 0)
    cameras = tiny_generator.posterior(frontal_cameras(tiny_generator.camera_config, 3), scenes.z, scenes.labels)
    planes = tiny_generator.make_content(tiny_generator.map(scenes.z, scenes.labels))
    expected = tiny_generator.render(planes, cameras, 8, RenderOptions(cut_quantile=0.5)).depth[:, 0]
    np.testing.assert_allclose(depth, expected, rtol=1e-4)
    assert not torch.allclose(expected, tiny_generator.render(planes, cameras, 8).depth[:, 0])


def naive_nfs_depth(generator: Generator, count: int, seed: int, size: int) -> np.ndarray:
    """Depth of the published non-flatness score without a fine pass, in NumPy, from the density of the field alone."""
    camera, samples = generator.camera_config, generator.model_config.generator.coarse_samples
    scenes = sample_scenes(generator, count, seed)
    prior = scenes.prior_cameras.clone()
    prior[:, 0], prior[:, 1], prior[:, 2] = 0, np.pi / 2, 0  # yaw, pitch, roll
    cameras = generator.posterior(prior, scenes.z, scenes.labels)
    content = generator.make_content(generator.map(scenes.z, scenes.labels))
    origins, directions = rays(cameras, size)
    ends = np.linspace(camera.ray_start, camera.ray_end, samples)
    edges = np.concatenate([ends[:1], (ends[1:] + ends[:-1]) / 2, ends[-1:]])
    u = uniform((count, size**2, samples), seed, "nfs", "coarse", torch.arange(count)).numpy()
    distances = edges[:-1] + np.diff(edges) * u
    points = origins[:, :, None] + torch.from_numpy(distances).float()[..., None] * directions[:, :, None]
    density = generator.density(content, points.flatten(1, 2)).double().numpy().reshape(distances.shape)
    for start in range(0, count, 4):
        batch = density[start : start + 4]
        batch[batch < np.sort(batch, axis=None)[batch.size // 2]] = 0
    depth = np.zeros((count, size**2))
    for ray in np.ndindex(depth.shape):
        through = 1.0
        for index, distance in enumerate(distances[ray]):
            length = distances[ray][index + 1] - distance if index + 1 < samples else np.inf
            opacity = 1 - np.exp(-density[ray][index] * length) if density[ray][index] else 0
            depth[ray] += through * opacity * distance
            through *= 1 - opacity
    return depth.reshape(count, size, size)


def test_published_non_flatness_sees_frontal_angles_jitter_and_the_median_of_four_scenes(tiny_generator):
    settings = tiny_generator.model_config.generator.model_copy(update={"fine_samples": 0})
    model = tiny_generator.model_config.model_copy(update={"generator": settings})
    generator = initial_generator(tiny_generator.camera_config, model, 2, [0.5, 0.5], seed=0).eval()
    depth = np.concatenate([*nfs_depth(generator, 6, 3, 8)])
    np.testing.assert_allclose(depth, naive_nfs_depth(generator, 6, 3, 8), atol=1e-5)
    assert np.abs(depth - np.concatenate([*frontal_depth(generator, 6, 3, 8, 6)])).max() > 1e-2
    np.testing.assert_array_equal(depth[:4], np.concatenate([*nfs_depth(generator, 4, 3, 8)]))


def flat_wall(generator: Generator, patch: pytest.MonkeyPatch, nearer: float = 0.0, brighter: float = 0.0) -> list:
    """Let the generator render a gray plane through frontal cameras; the second of two views may differ. Returns the
    yaws of the rendered cameras."""
    yaws: list[torch.Tensor] = []

    def render(planes, cameras, resolution, **_):
        second = len(yaws) % 2
        yaws.append(cameras[:, 0])
        origins, directions = rays(cameras, resolution)
        depth = (-0.2 + nearer * second - origins[..., 2]) / directions[..., 2]
        image = torch.full((len(cameras), 3, resolution, resolution), brighter * second)
        return Rendering(image, depth.reshape(len(cameras), 1, resolution, resolution))

    patch.setattr(generator, "render", render)
    frontal = lambda cameras, *_: frontal_cameras(generator.camera_config, len(cameras))  # noqa: E731
    patch.setattr(generator, "posterior", frontal)
    return yaws


def test_two_views_of_a_flat_wall_agree(tiny_generator, monkeypatch):
    flat_wall(tiny_generator, monkeypatch)
    found = views.measure(view_pairs(tiny_generator, 5, 0, 9, 2), (0.75, 1.25))
    assert found.color_error == 0
    assert found.depth_error < 1e-5
    assert 0.3 < found.compared < 1


def test_two_views_differ_by_the_introduced_error(tiny_generator, monkeypatch):
    """The second view shows the wall 5 thousandths nearer and a tenth brighter."""
    yaws = flat_wall(tiny_generator, monkeypatch, 0.005, 0.1)
    found = views.measure(view_pairs(tiny_generator, 4, 0, 17, 2), (0.75, 1.25))
    assert found.color_error == pytest.approx(12.75, rel=1e-5)  # of 255, where images have 2
    assert found.depth_error == pytest.approx(0.005 / 0.5, rel=0.1)  # seen aslant, by 0.2 radians and less
    assert [(second - first).tolist() for first, second in zip(yaws[::2], yaws[1::2], strict=True)] == [
        pytest.approx([0.2, -0.2])
    ] * 2


def test_view_from_outside_of_the_prior_comes_before_that_at_its_edge(tiny_generator, monkeypatch):
    """Both views of a wall agree; the view at the edge does not see what is nearer in the outer view."""
    config = tiny_generator.camera_config.model_copy(update={"yaw": (-0.3, 0.3)})
    monkeypatch.setattr(tiny_generator, "camera_config", config)
    with monkeypatch.context() as patch:
        yaws = flat_wall(tiny_generator, patch)
        found = views.measure(view_pairs(tiny_generator, 3, 0, 17, 2, outer=True), (0.75, 1.25))
        assert found.color_error == 0 and found.depth_error < 1e-5 and 0.3 < found.compared < 1
        assert yaws[0].tolist() == pytest.approx([0.55, 0.55]) and yaws[1].tolist() == pytest.approx([0.3, 0.3])
    flat_wall(tiny_generator, monkeypatch, nearer=-0.1)
    found = views.measure(view_pairs(tiny_generator, 3, 0, 17, 2, outer=True), (0.75, 1.25))
    assert found.depth_error > 0.1 and found.compared > 0.3


def test_normals_are_those_of_the_rendered_depth(tiny_generator, tmp_path):
    scenes = generate(tiny_generator, 5, 0, 8, batch_size=3, folder=tmp_path, label="test")
    expected = depth_normals(column(scenes, "depth")[:, 0], scenes.whole("camera")[:, 3]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(np.concatenate(list(scenes.normals())), expected, atol=1e-6)


def test_axis_depth_of_a_wall(tmp_path):
    """All points of a wall across the view have the same depth along the axis."""
    cameras = torch.tensor([[0.0, np.pi / 2, 0, 40, 1, 0, np.pi / 2, 0]], dtype=torch.float32)
    _, directions = rays(cameras, 8)
    along_ray = 0.5 / -directions[..., 2]  # the camera looks along -z
    np.savez(tmp_path / "00000000.npz", depth=along_ray.reshape(1, 1, 8, 8).numpy(), camera=cameras.numpy())
    (found,) = StoredScenes(tmp_path, 1).axis_depth(9)
    np.testing.assert_allclose(found, 0.5, rtol=1e-5)


class Brightness:
    """Finds depth in the red channel, and nothing in images that begin black."""

    name, looks_at_pixels = "brightness", True

    def estimate(self, pictures):
        return [
            Rejected("black")
            if one.rgb[0, 0].sum() == 0
            else Estimate(np.repeat(one.rgb[..., 0], 2, 1).repeat(2, 0) * 1.0)
            for one in pictures
        ]


def test_estimated_depth_is_that_of_the_first_images():
    images = np.random.default_rng(2).integers(1, 256, (5, 3, 8, 8), dtype=np.uint8)
    images[1] = 0
    stream = Stream(5, [lambda: images[:3], lambda: images[3:]])
    found = np.concatenate([*estimated_depth(stream, 4, Brightness(), "test")])
    assert found.shape == (4, 8, 8)  # at the images' resolution
    np.testing.assert_allclose(found[[0, 2, 3]], images[[0, 2, 3], 0], rtol=1e-5)
    assert (found[1] == 0).all()
