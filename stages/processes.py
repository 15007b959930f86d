"""The work of a stage in one process or in several: started here, as `machine.processes` says, or by torchrun."""

from __future__ import annotations

from stages.harness import Interrupted, Stage
from threedgp.runtime.processes import Stopped, Work, run_processes, started_by_torchrun


def share_work(stage: Stage, work: Work, *, saves_itself: bool = False) -> None:
    """Run ``work(should_stop, config, layout, scratch)`` in every process of the stage, and wait for it.

    Inside, `threedgp.runtime.processes.join_team` says which process it is; afterwards the first one publishes.

    Args:
        stage: the stage at work.
        work: importable by name.
        saves_itself: when the stage is stopped, `work` is told so by `should_stop`, saves and raises `Stopped`.
            Otherwise it is cut off wherever it is, for what it wrote counts.

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
            run_processes(count, work, arguments, lambda: stage.interrupted, at_once=not saves_itself)
    except Stopped:
        raise Interrupted from None
