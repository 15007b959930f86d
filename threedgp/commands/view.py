"""``threedgp view``: scenes in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from threedgp.commands.options import (
    MAX_SIZE,
    MIN_SIZE,
    MODEL,
    PARAMS,
    DeviceOption,
    ModelArgument,
    ParamsOption,
    TowardsOption,
    find_model,
)
from threedgp.runtime.errors import UserError

if TYPE_CHECKING:
    from threedgp.commands.run_states import StateWatch
    from threedgp.models.generator import Generator
    from threedgp.visual.viewer_scenes import SceneRenderer


def view(
    model: ModelArgument = MODEL,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 = any free port.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Default: this machine only; 0.0.0.0 = the whole network.")
    ] = "127.0.0.1",
    beside: Annotated[
        Path | None,
        typer.Option(
            parser=find_model, metavar="MODEL", help="A second model, which is shown at the right of the first."
        ),
    ] = None,
    watch: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a run in .scratch/train: show its newest state instead of a model, and every newer one."
        ),
    ] = None,
    params: ParamsOption = PARAMS,
    size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            min=MIN_SIZE,
            max=MAX_SIZE,
            help="Side of a saved image, and the largest one on the page. Default: 512.",
        ),
    ] = None,
    towards: TowardsOption = "all",
    device: DeviceOption = "auto",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page in a browser.")] = False,
) -> None:
    """Explore scenes in a browser: drag to orbit; set seed, class, truncation and camera; save images, meshes, films.

    \b
    Examples:
      threedgp view results/model --port 7860
      threedgp view results/model --beside demo
      threedgp view --watch .scratch/train/0123456789abcdef
    """
    import threading
    import webbrowser

    from threedgp.api import open_model
    from threedgp.runtime.progress import say
    from threedgp.visual.viewer import DEFAULT_SIZE, open_server, serve
    from threedgp.visual.viewer_scenes import SceneRenderer

    def renderer_of(folder: Path) -> tuple[SceneRenderer, list[str], str]:
        opened = open_model(folder, device)
        opened.require_density("a moving camera")
        title = str(opened.config.get("dataset") or folder.resolve().name)
        return SceneRenderer(opened.generator, towards, str(folder), opened.sha256), opened.class_names, title

    states = None
    if watch and model != MODEL:
        raise UserError("MODEL and --watch: both name what is shown; leave one out.")
    if watch:
        states, renderer, class_names, title = _open_run(watch, params, device, towards)
    else:
        renderer, class_names, title = renderer_of(model)
    second = None
    if beside:
        second, other_names, _ = renderer_of(beside)
        if other_names != class_names:
            raise UserError(
                f"--beside: {beside} has other classes than {watch or model}; compare models of the same ones."
            )
    server = open_server(host, port)
    try:
        sessions = serve(renderer, class_names, title, size or DEFAULT_SIZE, server, beside=second)
        if states:

            def show(generator: Generator, images: int) -> None:
                renderer.replace(generator, f"{images / 1000:g} thousand images")
                for session in list(sessions.values()):
                    session.refresh()

            threading.Thread(target=states.follow, args=(show,), daemon=True).start()
        shown = "localhost" if host in ("0.0.0.0", "::") else host
        address = f"http://{shown}:{server.get_port()}"
        say(f"{address} shows {watch or model}; stop with Ctrl+C.")
        if not no_browser:
            webbrowser.open(address)
        server.sleep_forever()
    except KeyboardInterrupt:
        pass
    finally:
        if states:
            states.end()
        server.stop()


def _open_run(
    folder: Path, params: Path, device: DeviceOption, towards: TowardsOption
) -> tuple[StateWatch, SceneRenderer, list[str], str]:
    """What follows a run in training, a renderer of its newest state, the names of its classes, and a title."""
    from threedgp.commands.run_states import StateWatch
    from threedgp.config import load_config
    from threedgp.data.shards import ShardFolder
    from threedgp.runtime.device import choose_device
    from threedgp.visual.viewer_scenes import SceneRenderer

    config = load_config(params)
    data = ShardFolder(Path("data", config.dataset.name, "shards")).meta
    names = data["class_names"]
    device = choose_device(device, setting="--device")
    states = StateWatch(folder, config, data["class_counts"], device, data.get("fov_quantiles"))
    generator = states.newer()
    if generator is None:
        raise UserError(f"--watch: {folder} has no saved state yet; name the folder of a run in .scratch/train.")
    if not generator.has_density:
        raise UserError("--watch: the model of this run makes images without density, which no camera can orbit.")
    renderer = SceneRenderer(generator, towards, f"{states.images / 1000:g} thousand images")
    class_names = names if generator.num_classes else []
    return states, renderer, class_names, config.dataset.name
