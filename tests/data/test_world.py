"""The procedural world against independent truths: scalar formulas, signed distances, and its stated distributions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from threedgp.camera.normals import depth_normals
from threedgp.data.world.animals import SPECIES
from threedgp.data.world.bodies import Body, rotation
from threedgp.data.world.cameras import (
    ELEVATION_BETA,
    ELEVATION_RANGE,
    FOV_RANGE,
    FOV_STD,
    MAX_YAW,
    YAW_MODES,
    draw_camera,
    image_plane,
    ray_directions,
    view_of,
)
from threedgp.data.world.coats import COATS
from threedgp.data.world.landscapes import FAR, LANDSCAPES
from threedgp.data.world.rendering import (
    GROUND,
    SUN_SIZE,
    Rendering,
    render_background,
    render_picture,
    sky_visibility,
    sun_visibility,
)
from threedgp.data.world.scenes import CLASS_NAMES, NEAR, Scene, draw_scene
from threedgp.data.world.solids import Ellipsoid, RoundedCone, Solid, extents

Array = NDArray[np.float64]
Distance = Callable[[Array], Array]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(0, index) for index in range(300)]


@pytest.fixture(scope="module")
def renderings(scenes: list[Scene]) -> list[Rendering]:
    return [render_picture(scene, 32) for scene in scenes]


def scalar_ray(camera: Array, x: float, y: float) -> tuple[list[float], list[float]]:
    """Origin and unit direction by the formulas of the model page, one number at a time."""
    yaw, pitch, _, fov, radius, look_yaw, look_pitch, look_radius = (float(value) for value in camera)

    def point(yaw: float, pitch: float, r: float) -> list[float]:
        return [r * math.sin(pitch) * math.sin(-yaw), r * math.cos(pitch), r * math.sin(pitch) * math.cos(yaw)]

    def unit(v: list[float]) -> list[float]:
        length = math.sqrt(sum(value * value for value in v))
        return [value / length for value in v]

    def cross(a: list[float], b: list[float]) -> list[float]:
        return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]

    origin, target = point(yaw, pitch, radius), point(look_yaw, look_pitch, look_radius)
    forward = unit([t - o for t, o in zip(target, origin, strict=True)])
    left = unit(cross([0.0, 1.0, 0.0], forward))
    up = unit(cross(forward, left))
    in_camera = unit([x, y, -1 / math.tan(math.radians(fov) / 2)])
    columns = ([-value for value in left], up, [-value for value in forward])
    return origin, [sum(column[i] * in_camera[k] for k, column in enumerate(columns)) for i in range(3)]


# ---- Cameras -----------------------------------------------------------------------------------------------------


def test_rays_follow_the_formulas(scenes: list[Scene]) -> None:
    plane = image_plane(5)
    np.testing.assert_array_equal(plane.reshape(2, -1)[:, [0, 4, 12, 20]], [[-1, 1, 0, -1], [1, 1, 0, -1]])
    for scene in scenes[:20]:
        view = view_of(scene.camera)
        directions = ray_directions(view, plane)
        for row in range(5):
            for column in range(5):
                expected_origin, expected = scalar_ray(scene.camera, *plane[:, row, column])
                np.testing.assert_allclose(view.origin, expected_origin, atol=1e-12)
                np.testing.assert_allclose(directions[:, row, column], expected, atol=1e-12)


def test_rays_are_those_of_the_model(scenes: list[Scene]) -> None:
    import torch

    from threedgp.camera.geometry import rays

    cameras = np.stack([scene.camera for scene in scenes[:8]])
    origins, directions = rays(torch.tensor(cameras), 16)
    for camera, its_origins, its_directions in zip(cameras, origins.numpy(), directions.numpy(), strict=True):
        view = view_of(camera)
        np.testing.assert_allclose(its_origins[0], view.origin, atol=1e-12)
        ours = ray_directions(view, image_plane(16)).reshape(3, -1)
        np.testing.assert_allclose(its_directions.T, ours, atol=1e-12)


def test_cameras_have_the_stated_distributions() -> None:
    random, mean_fov, count = np.random.default_rng(0), 20.0, 4000
    yaw, pitch, roll, fov, radius, *_, look_at_radius = np.stack(
        [draw_camera(random, mean_fov) for _ in range(count)]
    ).T
    # Five standard errors of a share, at most.
    error = 5 * math.sqrt(0.25 / count)
    assert abs((yaw > 0).mean() - 0.5) < error
    assert abs(yaw).max() <= MAX_YAW

    def below(limit: float) -> float:
        """Share of |yaw| below `limit` by the table: normal distributions folded at 0."""
        return sum(
            share * 0.5 * (math.erf((limit - mean) / (std * 2**0.5)) + math.erf((limit + mean) / (std * 2**0.5)))
            for share, mean, std in YAW_MODES.values()
        )

    for limit in (0.2, 0.5, 0.8, 1.2, 1.5, 1.8):
        assert abs((abs(yaw) < limit).mean() - below(limit)) < error
    first, last = ELEVATION_BETA
    elevation = (math.pi / 2 - pitch - ELEVATION_RANGE[0]) / (ELEVATION_RANGE[1] - ELEVATION_RANGE[0])
    assert 0 <= elevation.min() and elevation.max() <= 1
    assert elevation.mean() == pytest.approx(first / (first + last), abs=0.02)
    assert fov.mean() == pytest.approx(mean_fov, rel=0.01) and fov.std() == pytest.approx(FOV_STD * mean_fov, rel=0.1)
    assert (roll == 0).all() and (radius == 1).all() and look_at_radius.max() < 0.2  # the prior's ball


def test_fields_of_view_differ_between_classes(scenes: list[Scene]) -> None:
    fov, label = (np.array([value(scene) for scene in scenes]) for value in (lambda s: s.camera[3], lambda s: s.label))
    means = [fov[label == number].mean() for number in range(len(CLASS_NAMES))]
    np.testing.assert_allclose(means, [species.fov for species in SPECIES.values()], rtol=0.08)
    assert max(means) > 2 * min(means)
    assert FOV_RANGE[0] <= fov.min() and fov.max() <= FOV_RANGE[1]


# ---- Solids ------------------------------------------------------------------------------------------------------


def ball_distance(center: Array, radius: float) -> Distance:
    return lambda points: np.linalg.norm(points - center, axis=-1) - radius


def cone_distance(cone: RoundedCone, balls: int = 501) -> Distance:
    """By brute force: the smallest distance to any of many balls between the two ends."""
    shares = np.linspace(0, 1, balls)[:, None]
    centers = cone.start + shares * (cone.end - cone.start)
    radii = cone.start_radius + shares[:, 0] * (cone.end_radius - cone.start_radius)
    return lambda points: (np.linalg.norm(points[:, None] - centers, axis=-1) - radii).min(axis=1)


def march(distance: Distance, origin: Array, directions: Array) -> tuple[Array, Array]:
    """Distances `[N]` to a surface by sphere tracing along rays `[3, N]`, infinite where they miss, and how close they
    come to it."""
    travelled = np.zeros(directions.shape[1])
    closest = np.full(directions.shape[1], np.inf)
    for _ in range(100):
        step = distance(origin + (travelled * directions).T)
        closest = np.minimum(closest, abs(step))
        travelled = np.minimum(travelled + step, 10)
    return np.where(closest < 1e-5, travelled, np.inf), closest


def random_cone(random: np.random.Generator) -> RoundedCone:
    start, end = random.normal(0, 0.5, (2, 3))
    first = random.uniform(0.05, 0.4)
    second = first + random.uniform(-0.95, 0.95) * min(first, np.linalg.norm(end - start))
    return RoundedCone("coat", start, end, first, abs(second))


def random_rays(random: np.random.Generator, count: int, target: Array) -> tuple[Array, Array]:
    """From a point at distance 3 towards the neighborhood of a target."""
    origin = random.normal(size=3)
    origin = target + origin * 3 / np.linalg.norm(origin)
    directions = target[:, None] + random.normal(0, 0.25, (3, count)) - origin[:, None]
    return origin, directions / np.linalg.norm(directions, axis=0)


@pytest.mark.parametrize("seed", range(6))
def test_rounded_cones_against_ray_marching(seed: int) -> None:
    random = np.random.default_rng(seed)
    cone = random_cone(random)
    origin, directions = random_rays(random, 80, (cone.start + cone.end) / 2)
    distances, (marched, closest) = (
        cone.intersect(origin, directions),
        march(cone_distance(cone, 1501), origin, directions),
    )
    differ = np.isfinite(distances) != np.isfinite(marched)
    assert (closest[differ] < 1e-3).all() and np.isfinite(distances).sum() > 10  # rays that graze may do either
    both = np.isfinite(distances) & np.isfinite(marched)
    # Marching stops within 1e-5 of the surface, which is more along a ray that grazes it.
    np.testing.assert_allclose(distances[both], marched[both], atol=3e-4)


def test_rays_along_a_cone() -> None:
    cone = RoundedCone("coat", np.array([0.0, 0, 0]), np.array([0.0, 0, 1]), 0.5, 0.1)
    for start, direction, expected in ((-3.0, 1.0, 2.5), (3.0, -1.0, 1.9)):
        distance = cone.intersect(np.array([0.0, 0, start]), np.array([[0.0], [0.0], [direction]]))
        np.testing.assert_allclose(distance, [expected], atol=1e-9)


def test_ellipsoids_are_stretched_balls() -> None:
    random = np.random.default_rng(1)
    turn, half_axes, center = rotation(30, -50, 20), np.array([0.2, 0.5, 0.9]), random.normal(size=3)
    ellipsoid = Ellipsoid("coat", center, turn * half_axes)
    origin, directions = random_rays(random, 500, center)
    stretch = np.diag(1 / half_axes) @ turn.T  # to the unit ball
    local = stretch @ directions
    length = np.linalg.norm(local, axis=0)
    marched, closest = march(ball_distance(np.zeros(3), 1), stretch @ (origin - center), local / length)
    marched, distances = marched / length, ellipsoid.intersect(origin, directions)
    hit = np.isfinite(marched) & np.isfinite(distances)
    assert hit.sum() > 50 and (closest[np.isfinite(marched) != np.isfinite(distances)] < 1e-3).all()
    np.testing.assert_allclose(distances[hit], marched[hit], atol=1e-4)
    points = origin[:, None] + distances[hit] * directions[:, hit]
    np.testing.assert_allclose(np.linalg.norm(stretch @ (points - center[:, None]), axis=0), 1, atol=1e-9)
    # The gradient of |stretch (p - center)|^2, by finite differences.
    step = 1e-5
    value = lambda p: ((stretch @ (p - center[:, None])) ** 2).sum(axis=0)  # noqa: E731
    shifts = step * np.eye(3)[:, :, None]
    gradient = np.stack([value(points + shift) - value(points - shift) for shift in shifts]) / (2 * step)
    normals = ellipsoid.normals(points)
    np.testing.assert_allclose(_unit(normals), _unit(gradient), atol=1e-6)


def test_normals_of_rounded_cones_are_gradients_of_the_distance() -> None:
    random = np.random.default_rng(3)
    cone = random_cone(random)
    origin, directions = random_rays(random, 300, cone.start)
    distances = cone.intersect(origin, directions)
    hit = np.isfinite(distances)
    points = origin[:, None] + distances[hit] * directions[:, hit]
    distance, step = cone_distance(cone, balls=5001), 1e-3
    gradient = [distance((points + shift).T) - distance((points - shift).T) for shift in step * np.eye(3)[:, :, None]]
    np.testing.assert_allclose(_unit(cone.normals(points)), _unit(np.stack(gradient)), atol=2e-3)


@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_the_solid(seed: int) -> None:
    random = np.random.default_rng(seed)
    axes = rotation(*random.uniform(-90, 90, 3))
    balls = Ellipsoid("coat", random.normal(size=3), rotation(*random.uniform(-90, 90, 3)) * random.uniform(0.1, 1, 3))
    for solid in (random_cone(random), balls):
        origin, directions = random_rays(random, 4000, solid.ends[0][0])
        low, high = (bound[0] for bound in extents([solid], axes))
        for sign in (1, -1):  # seen from both sides
            distances = solid.intersect(sign * origin, sign * directions)
            hit = np.isfinite(distances)
            points = axes @ (sign * origin[:, None] + distances[hit] * sign * directions[:, hit])
            assert (points >= low[:, None] - 1e-9).all() and (points <= high[:, None] + 1e-9).all()
        placed = solid.placed(2.0, np.array([1.0, 2, 3]))
        np.testing.assert_allclose(extents([placed], axes)[0][0], 2 * low + axes @ [1, 2, 3])


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=0)


# ---- Light -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ball", "capsule"])
def test_shadow_of_the_sun(kind: str, scenes: list[Scene]) -> None:
    """Behind the solid it is dark, far from its axis bright, and half at the edge of the geometric shadow."""
    center = np.array([0.2, 0.5, 0.1])
    half = np.array([0, 0.05, 0])
    solid: Solid = (
        Ellipsoid("coat", center, 0.1 * np.eye(3))
        if kind == "ball"
        else RoundedCone("coat", center - half, center + half, 0.1, 0.1)
    )
    scene = replace(scenes[0], animal=(solid,), props=(), sun=np.array([0.0, 1, 0]))
    points = np.array([[0.2, 0, 0.1], [0.3, 0, 0.1], [0.5, 0, 0.1], [0.2, 0.9, 0.1]]).T
    lit = sun_visibility(scene, points, np.full(4, GROUND, np.int8))
    np.testing.assert_allclose(lit, [0, 0.5, 1, 1], atol=1e-6)
    assert (sun_visibility(scene, points, np.zeros(4, np.int8)) == 1).all()  # not on itself
    # The penumbra is as wide as the sun seen from there.
    width = 0.5 * SUN_SIZE
    beside = np.stack([np.array([0.3 + 1.01 * width, 0, 0.1]), np.array([0.3 + 0.9 * width, 0, 0.1])]).T
    outside, inside = sun_visibility(scene, beside, np.full(2, GROUND, np.int8))
    assert outside == 1 and 0.9 < inside < 1


def test_contact_shadows_are_darkest_below_the_feet(scenes: list[Scene]) -> None:
    for scene in scenes[:20]:
        if SPECIES[CLASS_NAMES[scene.label]].swims:
            continue
        low, high = extents(scene.animal, np.eye(3))
        foot = np.argmin(low[:, 1])
        below = (low + high)[foot] / 2
        places = np.stack([below, below + np.array([2 * scene.frame, 0, 0])], axis=1)
        shadow, far = sky_visibility(scene, places)
        assert shadow < 0.7 and far > 0.97


def test_shadows_fall_away_from_the_sun(scenes: list[Scene]) -> None:
    """Seen from above, the middle of the darkened ground lies on the side of the animal that the sun does not see."""
    from_above = np.array([0, 0.02, 0, 40, 1, 0, np.pi / 2, 0])
    for scene in scenes[:10]:
        bare = replace(scene, props=(), camera=from_above)
        picture, empty = render_picture(bare, 64), render_background(bare, 64)
        beside = cv2.dilate(picture.mask.astype(np.uint8), np.ones((3, 3))) == 0  # no pixels that show its edge
        darker = (empty.astype(int).sum(-1) - picture.rgb.astype(int).sum(-1)) * beside
        assert (darker >= 0).all()  # an animal adds no light
        view = view_of(bare.camera)
        directions = ray_directions(view, image_plane(64)).reshape(3, -1)
        points = view.origin[:, None] + picture.depth.ravel() * directions
        weight = np.where(np.abs(points[1] - bare.ground) < 1e-4, darker.ravel(), 0).clip(min=0)
        assert weight.sum() > 0
        low, high = extents(bare.animal, np.eye(3))
        middle = (low.min(axis=0) + high.max(axis=0)) / 2
        shadow = (points * weight).sum(axis=1) / weight.sum()
        assert (shadow - middle)[[0, 2]] @ bare.sun[[0, 2]] < 0


# ---- Scenes ------------------------------------------------------------------------------------------------------


def test_depth_is_that_of_the_nearest_surface(scenes: list[Scene], renderings: list[Rendering]) -> None:
    for scene, rendering in zip(scenes[:12], renderings, strict=False):
        view = view_of(scene.camera)
        directions = ray_directions(view, image_plane(32)).reshape(3, -1)
        distances = [solid.intersect(view.origin, directions) for solid in scene.solids]
        ground = np.where(directions[1] < 0, (scene.ground - view.origin[1]) / directions[1], np.inf)
        expected = np.min([*distances, ground, np.full(len(ground), FAR)], axis=0)
        agrees = np.isclose(rendering.depth.ravel(), expected, atol=1e-4)
        assert agrees.mean() > 0.997  # float32 may miss where a ray grazes
        animal = np.min(distances[: len(scene.animal)], axis=0) <= expected
        assert (animal.reshape(32, 32) == rendering.mask).mean() > 0.997


def test_normals_are_those_of_the_depth(scenes: list[Scene]) -> None:
    for scene in scenes[:6]:
        rendering = render_picture(scene, 256)
        np.testing.assert_allclose(np.linalg.norm(rendering.normals, axis=-1), 1, atol=1e-5)
        by_differences = depth_normals(rendering.depth[None].astype(float), scene.camera[None, 3])[0]
        agreement = (by_differences * rendering.normals).sum(axis=-1)
        surface = rendering.depth < FAR
        assert np.median(agreement[surface]) > 0.9999
        assert (agreement[surface] > 0.95).mean() > 0.85  # the rest lies on edges
        assert (rendering.normals[surface][:, 2] > -1e-3).mean() > 0.99  # surfaces that are seen face the camera


def test_world_fits_between_the_ends_of_the_rays(renderings: list[Rendering]) -> None:
    depth, mask = (np.stack([getattr(each, name) for each in renderings]) for name in ("depth", "mask"))
    assert depth.min() >= 0.75 and depth.max() <= np.float32(FAR)
    assert depth[mask].min() > NEAR - 1e-4 and depth[mask].max() < FAR
    assert (depth[:, 0] == np.float32(FAR)).mean() > 0.5  # sky at the top
    assert (depth[:, -1] < 1.2).all()  # ground at the bottom
    covered = mask.mean(axis=(1, 2))
    assert 0.04 < np.percentile(covered, 2) and np.percentile(covered, 98) < 0.45


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_animals_stand_on_the_ground(name: str, scenes: list[Scene]) -> None:
    label = CLASS_NAMES.index(name)
    for scene in [scene for scene in scenes if scene.label == label][:10]:
        bottoms = extents(scene.animal, np.eye(3))[0][:, 1] - scene.ground
        if SPECIES[name].swims:
            assert 0.1 * scene.frame < bottoms.min() < scene.frame
        else:
            assert abs(bottoms.min()) < 1e-9
            feet = (bottoms < 0.03 * scene.frame).sum()  # all of them, whatever the step
            assert feet >= (2 if name == "bird" else 4)


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_species_are_complete(name: str) -> None:
    species = SPECIES[name]
    assert set(species.coats) <= set(COATS) and set(species.landscapes) <= set(LANDSCAPES)
    body = Body(np.random.default_rng(0))
    species.build(body)
    low, high = extents(body.parts, np.eye(3))
    extent = high.max(axis=0) - low.min(axis=0)
    assert (extent > 0.3).all() and extent[2] > extent[0]  # longer than wide
    # Faces forward: the parts of the face lie in the front half.
    dark = [part.center[2] for part in body.parts if isinstance(part, Ellipsoid) and part.paint == "dark"]
    assert min(dark) > (low.min(axis=0) + high.max(axis=0))[2] / 2


def test_silhouettes_tell_classes_apart() -> None:
    """Side views, framed alike: masks of two animals of one class agree better than those of two classes."""
    size, per_class = 32, 6
    camera = np.array([math.pi / 2, math.pi / 2 - 0.2, 0, 30, 1, 0, math.pi / 2, 0])
    silhouettes = np.zeros((len(CLASS_NAMES), per_class, size, size), bool)
    found = [0] * len(CLASS_NAMES)
    for index in range(1000):
        scene = draw_scene(5, index)
        number = found[scene.label]
        if number < per_class:
            low, high = extents(scene.animal, np.eye(3))
            low, high = low.min(axis=0), high.max(axis=0)
            scale = 0.4 / (high - low)[1:].max()
            animal = tuple(part.placed(scale, -scale * (low + high) / 2) for part in scene.animal)
            mask = render_picture(replace(scene, animal=animal, props=(), camera=camera, frame=9.0), size).mask
            silhouettes[scene.label, number] = mask
            found[scene.label] += 1
    assert min(found) == per_class
    flat = silhouettes.reshape(len(CLASS_NAMES) * per_class, -1).astype(float)
    common = flat @ flat.T
    overlap = common / (flat.sum(1)[:, None] + flat.sum(1) - common)
    blocks = overlap.reshape(len(CLASS_NAMES), per_class, len(CLASS_NAMES), per_class).mean(axis=(1, 3))
    within = (np.diag(blocks) * per_class - 1) / (per_class - 1)  # without the comparison of each with itself
    between = blocks - np.diag(np.diag(blocks))
    # Four-legged bodies have much in common, but half of a silhouette should tell; the same class agrees better.
    assert between.max() < 0.65 and between.sum() / (len(CLASS_NAMES) * (len(CLASS_NAMES) - 1)) < 0.4
    assert (within > between.max(axis=1)).all()


def test_depends_on_seed_and_number_only() -> None:
    first, again, other = (render_picture(draw_scene(seed, 5), 24) for seed in (0, 0, 1))
    for name in ("rgb", "depth", "normals", "mask"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.rgb != other.rgb).any()


def test_all_classes_are_equally_likely(scenes: list[Scene]) -> None:
    counts = np.bincount([scene.label for scene in scenes], minlength=len(CLASS_NAMES))
    assert len(CLASS_NAMES) >= 8 and counts.min() > 10 and counts.max() < 60


def test_edges_are_smooth(scenes: list[Scene]) -> None:
    """An image is close to the average of one with twice the pixels: its edges hold mixed colors."""
    scene = scenes[0]
    small, large = render_picture(scene, 33).rgb.astype(float), render_picture(scene, 65).rgb.astype(float)
    # Corners are aligned: pixel i of the small image is pixel 2 i of the large one, its neighbors half a pixel off.
    rows = (large[1:-1:2][:-1] + 2 * large[2:-1:2] + large[3::2]) / 4
    averaged = (rows[:, 1:-1:2][:, :-1] + 2 * rows[:, 2:-1:2] + rows[:, 3::2]) / 4
    assert abs(small[1:-1, 1:-1] - averaged).mean() < 4
