"""``threedgp view``: an interactive page."""

from __future__ import annotations

from typing import Annotated

import typer

from threedgp.commands.options import MODEL, DeviceOption, ModelArgument, SizeOption, TowardsOption


def view(
    model: ModelArgument = MODEL,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0 = any that is free.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen on: this machine alone; 0.0.0.0 shows the page to the network.")
    ] = "127.0.0.1",
    size: SizeOption = None,
    towards: TowardsOption = "all",
    device: DeviceOption = "auto",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page in a browser.")] = False,
) -> None:
    """Look at scenes in a browser: drag to orbit; seed, class, truncation, camera; save pictures and meshes.

    \b
    Example:
      threedgp view results/model --port 7860
    """
    import webbrowser

    from threedgp.commands.models import open_model
    from threedgp.runtime.progress import say
    from threedgp.visual.viewer import LARGEST, open_server, serve
    from threedgp.visual.viewer_scenes import Painter

    opened = open_model(model, device)
    server = open_server(host, port)
    try:
        title = str(opened.about.get("dataset") or model.resolve().name)
        serve(Painter(opened.generator, towards), opened.class_names, title, size or LARGEST, server)
        shown = "localhost" if host in ("0.0.0.0", "::") else host
        address = f"http://{shown}:{server.get_port()}"
        say(f"{address} shows {model}; stop with Ctrl+C.")
        if not no_browser:
            webbrowser.open(address)
        server.sleep_forever()
    except KeyboardInterrupt:
        pass  # how it ends
    finally:
        server.stop()
