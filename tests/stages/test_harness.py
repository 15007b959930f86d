"""The harness around small stages of a small pipeline, in processes of their own."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
import typer
import yaml

from stages import harness
from stages.harness import Interrupted, open_stage
from threedgp.runtime import atomic
from threedgp.runtime.addresses import expanded
from threedgp.runtime.errors import UserError

PIPELINE = """
stages:
  prepare:
    cmd: python work.py
    deps: [work.py, "data/${dataset.name}/raw"]
    params: [dataset.resolution, prepare, features]
    outs: ["data/${dataset.name}/prepared"]
"""
SETTINGS = """
dataset: {name: tiny, source: procedural, resolution: 32}
model: {discriminator: {patch_resolution: 16}}
"""
# Builds ten shards; skips those that an earlier run finished. `work.py` waits where a file `pause` asks for it.
WORK = """
import sys, time
from pathlib import Path
import typer
from stages.harness import Interrupted, ParamsOption, open_stage
from threedgp.runtime.errors import UserError

def main(params: ParamsOption = Path("params.yaml")) -> None:
    with open_stage("prepare", params) as stage:
        if Path("defer").exists():
            stage.defer_interrupts()
        built = stage.scratch / "prepared"
        built.mkdir(exist_ok=True)
        for shard in range(10):
            target = built / f"part-{shard}"
            if not target.exists():
                target.write_text("rows")
                print("made", shard, flush=True)
            while shard == 4 and Path("pause").exists() and not stage.interrupted:
                time.sleep(0.01)
            if stage.interrupted:
                (stage.scratch / "saved").write_text("state")
                raise Interrupted
        stage.publish(built, stage.layout.prepared)

typer.run(main)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "params.yaml").write_text(SETTINGS)
    (tmp_path / "work.py").write_text(WORK)
    raw = tmp_path / "data" / "tiny" / "raw"
    raw.mkdir(parents=True)
    (raw / "manifest.json").write_text("{}")
    (raw / "part-0").write_text("pictures")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(harness.__file__).parent.parent))
    return tmp_path


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(project: Path) -> Iterator[Start]:
    running = []

    def begin(*command: str, until: str | None = None) -> subprocess.Popen[str]:
        command = command or (sys.executable, "work.py")
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        while until and process.stdout.readline().strip() != until:
            assert process.poll() is None, process.stderr.read()
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_success_publishes_and_leaves_no_scratch(project: Path, start: Start) -> None:
    code, out, err = finish(start())
    assert (code, err) == (0, "") and out.count("made") == 10
    assert len(list(Path("data/tiny/prepared").iterdir())) == 10
    assert list(Path(".scratch/prepare").iterdir()) == []


def test_second_run_is_refused_with_one_sentence(project: Path, start: Start) -> None:
    Path("pause").touch()
    first = start(until="made 4")
    code, out, err = finish(start())
    assert (code, out) == (2, "")
    assert err == (
        f"error: another run of stage 'prepare' is active (process {first.pid}); "
        "wait until it ends, or stop it and start again.\n"
    )
    Path("pause").unlink()
    assert finish(first)[0] == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_stops_and_the_same_command_goes_on(
    project: Path, start: Start, number: signal.Signals, code: int
) -> None:
    Path("pause").touch()
    process = start(until="made 4")
    process.send_signal(number)
    returned, _, err = finish(process)
    assert returned == code
    assert err == "prepare: stopped; run the same command again to continue.\n"
    assert not Path("data/tiny/prepared").exists()
    Path("pause").unlink()
    code, out, _ = finish(start())
    assert code == 0 and "made 4" not in out and out.count("made") == 5
    assert len(list(Path("data/tiny/prepared").iterdir())) == 10


def test_deferred_signal_lets_the_stage_save(project: Path, start: Start) -> None:
    Path("pause").touch()
    Path("defer").touch()
    process = start(until="made 4")
    process.send_signal(signal.SIGTERM)
    returned, _, err = finish(process)
    assert returned == 143 and "stopped" in err
    (scratch,) = Path(".scratch/prepare").iterdir()
    assert (scratch / "saved").read_text() == "state"


def test_kill_frees_the_lock_and_keeps_the_work(project: Path, start: Start) -> None:
    Path("pause").touch()
    process = start(until="made 4")
    process.kill()
    process.wait()
    Path("pause").unlink()
    code, out, _ = finish(start())
    assert code == 0 and out.count("made") == 5


def test_orphan_holds_the_lock(project: Path, start: Start) -> None:
    Path("pause").touch()
    shell = start("/bin/sh", "-c", f"'{sys.executable}' work.py; echo over", until="made 4")
    shell.kill()
    shell.wait()
    orphan = int(Path(".scratch/locks/prepare.pid").read_text())
    code, _, err = finish(start())
    assert code == 2 and f"(process {orphan})" in err
    Path("pause").unlink()
    wait_for(lambda: not Path(".scratch/locks/prepare.pid").exists())
    assert finish(start())[0] == 0


def test_reader_that_goes_away(project: Path, start: Start) -> None:
    process = start()
    process.stdout.close()
    assert process.wait(30) == 128 + signal.SIGPIPE
    assert process.stderr.read() == ""
    assert finish(start())[0] == 0


def open_prepare() -> Iterator[harness.Stage]:
    return open_stage("prepare", Path("params.yaml"))


def test_torchrun_starts_only_one_process_of_a_stage_that_is_not_shared(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(typer.Exit) as exit, open_prepare():
        pytest.fail("the second process works, too")
    assert exit.value.exit_code == 0
    with open_stage("prepare", Path("params.yaml"), shared=True) as stage:
        assert not stage.is_main


def test_user_error_is_one_line_and_code_2(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit, open_prepare():
        raise UserError("raw/a.png: this is no picture; remove it.")
    assert exit.value.code == 2
    assert capsys.readouterr().err == "error: raw/a.png: this is no picture; remove it.\n"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "part-00000.parquet"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_full_disk_is_a_sentence_and_keeps_scratch(
    project: Path, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    with pytest.raises(SystemExit) as exit, open_prepare() as stage:
        (stage.scratch / "part-0").write_text("rows")
        raise error
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith("error: the disk is full; free some space")
    assert (stage.scratch / "part-0").exists()


def test_output_that_cannot_be_written_is_told_before_the_work(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "data").rename(project / "elsewhere")
    (project / "data").symlink_to("/proc/self")
    Path("dvc.yaml").write_text(PIPELINE.replace('"data/${dataset.name}/raw"', "params.yaml"))
    with pytest.raises(SystemExit) as exit, open_prepare():
        raise AssertionError("the body must not run")
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith("error: stage prepare: data/tiny/prepared cannot be written (")


def test_memory_that_runs_out_names_the_settings(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit, open_prepare():
        bytearray(2**50)
    assert exit.value.code == 2
    assert capsys.readouterr().err == (
        "error: there is too little memory; lower machine.workers or machine.processes, or close other programs, "
        "and run the same command again.\n"
    )


def test_in_a_temporary_copy_paths_lead_to_the_project_and_a_stop_says_what_is_lost(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = project / ".dvc" / "tmp" / "exps" / "tmp1"
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns(".dvc"))
    (project / "my images").mkdir()
    monkeypatch.chdir(copy)
    assert expanded("my images").samefile(project / "my images")
    assert expanded("data").samefile(copy / "data")
    with pytest.raises(SystemExit), open_prepare():
        os.kill(os.getpid(), signal.SIGTERM)
    out, err = capsys.readouterr()
    assert out == "prepare: runs in a temporary copy; if it is stopped, what it has done so far is lost.\n"
    assert err == "prepare: stopped; its work is lost with the temporary copy.\n"


def test_defects_keep_their_traceback(project: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_prepare():
        raise ZeroDivisionError
    with open_prepare():  # and the lock is free again
        pass


def test_interrupt_is_no_exception() -> None:
    assert not issubclass(Interrupted, Exception)


def test_missing_input_names_the_stage_to_run(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "data/tiny/raw").rename(project / "elsewhere")
    with pytest.raises(SystemExit), open_prepare():
        pass
    assert "data/tiny/raw: stage 'prepare' reads this and it is missing; run `dvc repro prepare`" in (
        capsys.readouterr().err
    )


def test_wrong_settings_are_told_before_anything_runs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").write_text(SETTINGS + "prepare: {encodng: png}\n")
    with pytest.raises(SystemExit), open_prepare():
        raise AssertionError("the body must not run")
    assert "unknown key 'prepare.encodng'; did you mean 'prepare.encoding'?" in capsys.readouterr().err


def test_missing_setting_is_an_error_under_dvc(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC tracks the values in the file, and not the defaults of the schema."""
    monkeypatch.setenv("DVC_STAGE", "prepare")
    with pytest.raises(SystemExit), open_prepare():
        raise AssertionError("the body must not run")
    assert "is missing; DVC tracks the values in the file" in capsys.readouterr().err


def test_publishing_what_is_not_declared_is_a_defect(project: Path) -> None:
    with pytest.raises(ValueError, match=r"not an output that dvc\.yaml declares for stage 'prepare'"):
        with open_prepare() as stage:
            (stage.scratch / "x").write_text("")
            stage.publish(stage.scratch / "x", stage.layout.features)


def finish_prepare(content: str = "rows") -> int:
    """Run the stage; the number of times that its body ran."""
    ran = 0
    with suppress(typer.Exit), open_prepare() as stage:
        ran += 1
        built = stage.scratch / "prepared"
        built.mkdir()
        (built / "part-0").write_text(content)
        stage.publish(built, stage.layout.prepared)
    return ran


@pytest.fixture
def dvc_project(project: Path) -> Path:
    """The project as DVC has it, with the hash of the folder that `finish_prepare` leaves in the entry of the stage."""
    (project / ".dvc").mkdir()
    return project


def record(md5: str) -> None:
    """Write ``dvc.lock`` as DVC does."""
    out = {"path": "data/tiny/prepared", "hash": "md5", "md5": md5, "size": 4, "nfiles": 1}
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"prepare": {"cmd": "", "outs": [out]}}}))


def test_signal_while_publishing_loses_nothing_and_stops_dvc(
    dvc_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish = atomic.publish

    def interrupted(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        publish(*arguments, **options)

    monkeypatch.setattr(atomic, "publish", interrupted)
    with pytest.raises(SystemExit) as exit:
        finish_prepare()
    assert exit.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "prepare: stopped; run the same command again to continue.\n"
    assert (dvc_project / "data/tiny/prepared/part-0").read_text() == "rows"


def test_a_finished_result_is_published_again_until_dvc_records_it(dvc_project: Path) -> None:
    target = dvc_project / "data" / "tiny" / "prepared"
    for md5 in ("", "00000000000000000000000000000000.dir"):  # nothing is recorded, or another result
        if md5:
            record(md5)
        assert finish_prepare() == (not md5)
        assert (target / "part-0").read_text() == "rows"
        shutil.rmtree(target)  # as DVC does when it runs a stage
    record("6b4b6065140240279f525676b86f2e7e.dir")
    assert finish_prepare() == 1
    assert finish_prepare() == 1, "an equal result is recorded already, though dvc.lock stays the same"


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("params.yaml", SETTINGS + "prepare: {encoding: jpeg}", "params.yaml: prepare.encoding: changed while"),
        ("work.py", WORK + "# changed", "work.py: changed while"),
        ("params.yaml", SETTINGS + "features: {batch_size: 8}\ntrain: {kimg: 1}", ""),
        ("other.py", "changed", ""),
    ],
)
def test_a_result_is_not_published_for_inputs_that_changed_meanwhile(
    dvc_project: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, named: str
) -> None:
    target = dvc_project / "data" / "tiny" / "prepared" / "part-0"
    before = Path(file).read_text() if Path(file).exists() else ""
    with pytest.raises(SystemExit) if named else nullcontext(), open_prepare() as stage:
        built = stage.scratch / "prepared"
        built.mkdir()
        (built / "part-0").write_text("rows")
        stage.publish(built, stage.layout.prepared)
        Path(file).write_text(content)
    assert named in capsys.readouterr().err and target.exists() is (not named)
    Path(file).write_text(before)
    assert finish_prepare("other rows") == 0, "the result is kept"
    assert target.read_text() == "rows"


def test_a_kept_result_that_was_edited_is_made_again(dvc_project: Path) -> None:
    assert finish_prepare() == 1
    with (dvc_project / "data/tiny/prepared/part-0").open("a") as file:
        file.write(" and more")
    assert finish_prepare() == 1
    assert (dvc_project / "data/tiny/prepared/part-0").read_text() == "rows"


def test_stage_sees_only_what_it_declares(project: Path) -> None:
    with open_prepare() as stage:
        assert stage.config.dataset.resolution == 32
        assert stage.config.prepare.encoding == "webp"
        assert stage.config.dataset.name == "tiny"
        assert stage.config.machine.workers == 2
        for undeclared in (lambda: stage.config.dataset.source, lambda: stage.config.train):
            with pytest.raises(AttributeError, match=r"stage 'prepare' reads (dataset\.source|train), which"):
                undeclared()


def scratch_name() -> str:
    with open_prepare() as stage:
        return stage.scratch.name


@pytest.mark.parametrize(
    ("file", "content", "same"),
    [
        ("params.yaml", SETTINGS.replace("resolution: 32", "resolution: 64"), False),
        ("params.yaml", SETTINGS + "prepare: {encoding: jpeg}", False),
        ("params.yaml", SETTINGS + "train: {kimg: 1}\nmachine: {workers: 5}", True),
        ("params.yaml", SETTINGS + "prepare: {encoding: webp}", True),
        ("params.yaml", SETTINGS + "features: {input_size: 64}", False),
        ("params.yaml", SETTINGS + "features: {batch_size: 8}", True),  # after a message that memory has run out
        ("work.py", WORK + "# changed", False),
        ("other.py", "changed", True),
        ("data/tiny/raw/manifest.json", '{"rows": 1}', False),
        ("data/tiny/raw/part-0", "the manifest speaks for the data", True),
    ],
)
def test_scratch_belongs_to_settings_code_and_data(project: Path, file: str, content: str, same: bool) -> None:
    before = scratch_name()
    Path(file).write_text(content)
    assert (scratch_name() == before) is same
