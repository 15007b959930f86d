"""``threedgp view``: scenes in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from threedgp.commands.options import MODEL, DeviceOption, ModelArgument, SizeOption, TowardsOption


def view(
    model: ModelArgument = MODEL,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 = any free port.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Default: this machine only; 0.0.0.0 = the whole network.")
    ] = "127.0.0.1",
    size: SizeOption = None,
    towards: TowardsOption = "all",
    device: DeviceOption = "auto",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page in a browser.")] = False,
) -> None:
    """Explore scenes in a browser: drag to orbit; set seed, class, truncation and camera; save images and meshes.

    \b
    Example:
      threedgp view results/model --port 7860
    """
    import webbrowser

    from threedgp.commands.models import open_model
    from threedgp.runtime.progress import say
    from threedgp.visual.viewer import MAX_SIZE, open_server, serve
    from threedgp.visual.viewer_scenes import SceneRenderer

    opened = open_model(model, device)
    opened.require_density("a moving camera")
    server = open_server(host, port)
    try:
        title = str(opened.config.get("dataset") or model.resolve().name)
        serve(SceneRenderer(opened.generator, towards), opened.class_names, title, size or MAX_SIZE, server)
        shown = "localhost" if host in ("0.0.0.0", "::") else host
        address = f"http://{shown}:{server.get_port()}"
        say(f"{address} shows {model}; stop with Ctrl+C.")
        if not no_browser:
            webbrowser.open(address)
        server.sleep_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.stop()
