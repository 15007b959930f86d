"""What every stage needs around its work: settings, a lock, scratch space, processes, signals and clear errors.

Outputs are built in scratch, shard by shard, and published at the end. A run that is stopped or killed leaves its
scratch folder, whose name is a hash of everything that the result depends on: the same command continues from there,
and a run with other settings, code or data cannot find it. A finished result stays there until DVC has recorded it.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, cast

import filelock
import typer

from stages import finished
from stages.declaration import Declaration, DeclaredSettings, declarations, difference
from stages.layout import Layout
from threedgp.commands.scratch import SCRATCH
from threedgp.config import Config, load_config
from threedgp.runtime import atomic
from threedgp.runtime.addresses import copied_project
from threedgp.runtime.allocator import keep_freed_memory
from threedgp.runtime.errors import UserError, explained
from threedgp.runtime.processes import Stopped, Work, run_processes, started_by_torchrun
from threedgp.runtime.progress import CONTROL, is_closed, print_all_characters, say, silence
from threedgp.runtime.targets import try_writing, writing

LOCK_TIMEOUT = 3.0
"""Seconds to wait for another run that may be about to end."""

MEMORY_SETTINGS = {
    "features": "features.batch_size or machine.processes",
    "depth": "depth.batch_size or machine.processes",
    "embed": "embed.batch_size or machine.processes",
    "shards": "shards.rows_per_shard",
    "train": "train.batch_size or machine.processes, or raise train.accumulation",
    "evaluate": "evaluate.batch_size or machine.processes",
    "render": "render.mesh_resolution or render.grid",
}
"""Settings that determine how much memory a stage needs."""

ParamsOption = Annotated[Path, typer.Option("--params", help="File with the settings of all stages.")]


class Interrupted(BaseException):
    """The run was asked to stop. Like KeyboardInterrupt no Exception, so that no handler for bad images catches it."""


class Stage:
    """A running stage."""

    def __init__(self, config: Config, declaration: Declaration, scratch: Path) -> None:
        self.declaration = declaration
        self.config = cast(Config, DeclaredSettings(config, declaration))
        self.settings = declaration.values(config)
        """The settings that the stage declares, by dotted key."""
        self.layout = Layout.of(config)
        self.scratch = scratch
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.stop_signal: int | None = None
        self.outs: dict[Path, Path] = {}
        """The finished files and folders in scratch, by output."""
        self._deferred = False

    @property
    def is_main(self) -> bool:
        """Whether this is the only process of the stage, or the first of those that torchrun started."""
        return _is_main()

    @property
    def interrupted(self) -> bool:
        """Whether the run was asked to stop."""
        return self.stop_signal is not None

    def defer_interrupts(self) -> None:
        """From now on a signal only sets `interrupted`; the stage saves and then raises `Interrupted` itself."""
        self._deferred = True

    def publish(self, built: Path, target: Path) -> None:
        """Make the finished file or folder `built` the output `target` when the body of the stage ends.

        The first call defers signals: all work is done, and a stop between two outputs would lose it.
        """
        if target not in self.declaration.outs:
            raise ValueError(f"{target} is not an output that dvc.yaml declares for stage '{self.declaration.name}'")
        self.defer_interrupts()
        self.outs[target] = built

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop_signal = number
        if not self._deferred:
            raise Interrupted


@contextmanager
def open_stage(
    name: str,
    params: Path,
    variant: Callable[[Declaration], Declaration] = lambda declared: declared,
    *,
    shared: bool = False,
) -> Iterator[Stage]:
    """Run the body as stage `name` of ``dvc.yaml``, with the settings of the file `params`.

    The process ends with code 2 and one sentence on an error that `explained` knows, with 128 + signal when stopped.
    Scratch is kept until DVC has recorded the outputs; if it did not, and removed them, they are published again. Where
    there is no DVC, scratch is removed when the body succeeds.

    Args:
        variant: changes the declaration, for a command of the stage that reads and writes other things; with another
            name it has its own lock and scratch.
        shared: whether several processes that torchrun started work together. Otherwise all but the first leave at
            once. The first one holds the lock and removes scratch.
    """
    if not shared and not _is_main():
        raise typer.Exit()
    keep_freed_memory()
    with clear_errors(MEMORY_SETTINGS.get(name, "machine.workers or machine.processes")):
        config = load_config(params, complete="DVC_STAGE" in os.environ)
        declaration = variant(declarations(config)[name])
        with _lock(declaration.name) if _is_main() else nullcontext():
            inputs = declaration.inputs(config)
            scratch = SCRATCH / declaration.name / declaration.fingerprint(inputs)
            # The result is the same in every process of torchrun, before or after the first one has cleaned up.
            kept = finished.find(scratch)
            is_recorded = kept is not None and kept.is_recorded(scratch)
            if _is_main():
                for out in declaration.outs:
                    with writing(out, f"stage {name}"):
                        try_writing(out.parent)
                _clean_up(declaration.name)
            stage = Stage(config, declaration, scratch)
            if _is_main() and copied_project():
                say(f"{name}: runs in a temporary copy; if it is stopped, what it has done so far is lost.")
            with _signals(stage):
                if kept is not None and not is_recorded:
                    if _is_main():
                        say(f"{name}: finished by an earlier run; remove {scratch} to run it again.")
                        _publish(stage, kept)
                    raise typer.Exit()
                # A result that DVC has recorded before is recorded as soon as it is equal.
                before = "" if is_recorded else finished.lock_entry(name)
                yield stage
                if _is_main():
                    result = finished.finish(scratch, declaration.name, stage.outs, before)
                    if result.outs and Path(".dvc").is_dir():
                        _require_same_inputs(stage, inputs, params)
                    _publish(stage, result)


def _require_same_inputs(stage: Stage, before: dict[str, dict[str, Any]], params: Path) -> None:
    """Raise UserError if a setting or a file is no longer what it was when the stage began: DVC would record the result
    with the new one, and never compute it again."""
    after = stage.declaration.inputs(load_config(params))
    key, file = (difference(before[kind], after[kind]) for kind in ("params", "deps"))
    if key or file:
        raise UserError(
            f"{f'{params}: {key}' if key else file}: changed while stage '{stage.declaration.name}' ran; its result is "
            f"finished and kept in {stage.scratch}. Undo the change and run the same command again to publish it; with "
            "the change the stage starts anew."
        )


def _publish(stage: Stage, result: finished.Finished) -> None:
    """Publish a finished result. A stop meanwhile ends the process afterwards, and DVC with it."""
    stage.defer_interrupts()
    result.publish(stage.scratch)
    if not (result.outs and Path(".dvc").is_dir()):
        atomic.remove(stage.scratch)
    if stage.interrupted:
        raise Interrupted


def _clean_up(own: str) -> None:
    """Remove results that DVC has recorded or someone has changed, and what interrupted removals have left."""
    for place in [*SCRATCH.glob("*/.*.removed"), *SCRATCH.glob(f"*/[!.]*/{finished.RECORD}")]:
        is_record = place.name == finished.RECORD
        scratch = place.parent if is_record else place
        with suppress(UserError), nullcontext() if scratch.parent.name == own else _lock(scratch.parent.name, 0):
            if not is_record:
                shutil.rmtree(place)
            elif (result := finished.find(scratch)) is None or result.is_recorded(scratch):
                atomic.remove(scratch)


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def clear_errors(lower: str = "") -> Iterator[None]:
    """End the process with one sentence and code 2 on errors that a user can act on; see `explained`."""
    print_all_characters()
    try:
        yield
    except BrokenPipeError:
        silence(sys.stdout.fileno())
        _leave("", 128 + signal.SIGPIPE)
    except Exception as error:
        found = explained(error, lower)
        if found is None:
            raise
        _leave(f"error: {found}", 2)


def _leave(message: str, code: int) -> None:
    if message:
        try:
            print(message.translate(CONTROL), file=sys.stderr, flush=True)
        except OSError as error:
            if not is_closed(error):
                raise
            silence(sys.stderr.fileno())
    raise SystemExit(code) from None


@contextmanager
def _lock(name: str, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Prevent a second run of the stage. The lock belongs to the process: a stage whose `dvc repro` was killed still
    holds it, and a stage that was killed itself does not."""
    folder = SCRATCH / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / f"{name}.pid"
    lock = filelock.FileLock(folder / f"{name}.lock", timeout=timeout)
    children = filelock.FileLock(folder / f"{name}.children", timeout=timeout)
    try:
        lock.acquire()
        children.acquire().lock.release()  # the processes of a run that was killed have to notice it, and save
    except filelock.Timeout:
        process = f" (process {holder.read_text().strip()})" if holder.is_file() and not lock.is_locked else ""
        lock.release()
        raise UserError(
            f"another run of stage '{name}' is active{process}; wait until it ends, or stop it and start again."
        ) from None
    try:
        holder.write_text(f"{os.getpid()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextmanager
def _signals(stage: Stage) -> Iterator[None]:
    """Handle SIGINT and SIGTERM: leave scratch in place and exit with 128 + signal."""
    before = {number: signal.signal(number, stage._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Interrupted:
        number = stage.stop_signal or signal.SIGTERM
        is_lost = "its work is lost with the temporary copy"
        what_next = is_lost if copied_project() else "run the same command again to continue"
        _leave(f"{stage.declaration.name}: stopped; {what_next}.", 128 + number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def share_work(stage: Stage, work: Work, *, saves_itself: bool = False) -> None:
    """Run ``work(should_stop, config, layout, scratch)`` in every process of the stage, and wait for it.

    The processes are started here, as many as `machine.processes` says, unless torchrun has started them. Inside,
    `threedgp.runtime.processes.join_group` gives their group; afterwards the first process publishes.

    Args:
        stage: the running stage.
        work: importable by name.
        saves_itself: when the stage is stopped, `should_stop` returns True; `work` saves and raises `Stopped`.
            Otherwise it is stopped at any point, since what it has written is kept.

    Raises:
        Interrupted: the stage was stopped.
        UserError: the work did, in any process.
    """
    count, arguments = stage.config.machine.processes, (stage.config, stage.layout, stage.scratch)
    alone = count == 1 or started_by_torchrun()
    if saves_itself or not alone:
        stage.defer_interrupts()
    try:
        if alone:
            work(lambda: stage.interrupted, *arguments)
        else:
            lock = SCRATCH / "locks" / f"{stage.declaration.name}.children"
            run_processes(count, work, arguments, lambda: stage.interrupted, at_once=not saves_itself, lock=lock)
    except Stopped:
        raise Interrupted from None
