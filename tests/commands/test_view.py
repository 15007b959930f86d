"""``threedgp view`` says in one sentence why it cannot begin."""

from __future__ import annotations

import socket

import pytest
import yaml

from threedgp.data.shards import ShardFolder
from threedgp.models.initialization import initial_generator
from threedgp.training.checkpoints import save_state
from threedgp.visual.viewer import DEFAULT_SIZE
from training.worlds import tiny_config, write_shards


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        yield listener.getsockname()[1]


def test_help_shows_an_example(threedgp):
    outcome = threedgp("view", "--help")
    assert outcome.code == 0
    assert "threedgp view results/model" in outcome.out
    assert f"Default: {DEFAULT_SIZE}" in " ".join(outcome.out.replace("│", " ").split())


def test_port_taken(refused, model_folder, taken_port):
    sentence = refused("view", model_folder, "--port", taken_port, "--no-browser")
    assert f"--port: cannot listen on 127.0.0.1:{taken_port}" in sentence and "choose another one" in sentence


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a..b", "x" * 70 + ".local"])
def test_an_address_that_is_not_ours(refused, model_folder, host):
    """192.0.2.0/24 is reserved for documentation (RFC 5737)."""
    assert f"cannot listen on {host}:7860" in refused("view", model_folder, "--host", host, "--no-browser")


def test_options_reach_the_page(threedgp, model_folder, monkeypatch):
    """A server that nobody looks at: told to stop as soon as it would sleep."""
    from threedgp.visual import viewer

    served = []

    def serve(renderer, class_names, title, size, server, beside):
        served.append((renderer.towards, class_names, title, size, server.get_host(), beside.name))

    def sleep(server):
        served.append(socket.create_connection((server.get_host(), server.get_port())))  # it does listen
        raise KeyboardInterrupt

    monkeypatch.setattr(viewer, "serve", serve)
    monkeypatch.setattr(viewer.LocalServer, "sleep_forever", sleep)
    beside = "--beside", model_folder, "--no-browser"
    outcome = threedgp("view", model_folder, "--port", 0, "--size", 384, "--towards", "class", *beside)
    assert outcome.code == 0 and outcome.err == ""
    listening = served.pop()
    assert served == [("class", ["box", "ball"], "tiny", 384, "127.0.0.1", str(model_folder))]
    assert f"http://127.0.0.1:{listening.getpeername()[1]} shows {model_folder}" in outcome.out
    listening.close()


def test_a_run_in_training_is_shown(threedgp, refused, tmp_path, monkeypatch):
    from threedgp.visual import viewer

    config = tiny_config()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    write_shards(tmp_path / "data" / "tiny" / "shards")
    (tmp_path / "run").mkdir()
    assert "--watch: run has no saved state yet" in refused("view", "--watch", "run", "--no-browser")
    assert "MODEL and --watch: both name" in refused("view", "demo", "--watch", "run", "--no-browser")
    class_names = ShardFolder(tmp_path / "data" / "tiny" / "shards").meta["class_names"]
    generator = initial_generator(config.camera, config.model, len(class_names), [], 1)
    settings = {name: getattr(config, name).model_dump(mode="json") for name in ("camera", "model")}
    state = {"settings": settings, "trainer": {"average": generator.state_dict()}}
    save_state(tmp_path / "run" / "states", 16, state, keep=1)
    served = []

    def serve(renderer, class_names, title, size, server, beside):
        served.append((renderer.name, class_names, title))
        return {}

    def stop(server):
        raise KeyboardInterrupt

    monkeypatch.setattr(viewer, "serve", serve)
    monkeypatch.setattr(viewer.LocalServer, "sleep_forever", stop)
    outcome = threedgp("view", "--watch", "run", "--port", 0, "--no-browser")
    assert outcome.code == 0 and outcome.err == "" and "shows run" in outcome.out
    assert served == [("0.016 thousand images", class_names, "tiny")]


def test_models_of_other_classes_are_not_compared(refused, model_folder):
    told = refused("view", model_folder, "--beside", "demo", "--no-browser")
    assert told.startswith("--beside: ") and "has other classes" in told


def test_the_page_is_never_led_through_a_relay(monkeypatch):
    import viser

    from threedgp.visual.viewer import open_server

    monkeypatch.setattr(viser.ViserServer, "request_share_url", lambda *_, **__: "https://relay.example")
    server = open_server("127.0.0.1", 0)
    assert server.request_share_url() is None
    server.stop()


def test_no_such_model(refused, tmp_path):
    assert "no such folder" in refused("view", tmp_path / "nowhere", "--no-browser")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "config.json: no such file" in refused("view", tmp_path, "--no-browser")


def test_truncated_weights(refused, model_folder, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((model_folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes((model_folder / "model.safetensors").read_bytes()[:100])
    assert "model.safetensors: " in refused("view", tmp_path, "--no-browser")
