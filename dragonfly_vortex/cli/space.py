"""The sub-command ``gc``, which makes room in the storage; a daemon may use the storage meanwhile."""

from __future__ import annotations

from argparse import Namespace

from dragonfly_vortex.cli.configuration import read_config
from dragonfly_vortex.cli.exit_status import ExitStatus
from dragonfly_vortex.cli.text import counted
from dragonfly_vortex.storage.collector import Collector, policy_of

__all__ = ["collect_garbage"]


def collect_garbage(arguments: Namespace) -> ExitStatus:
    """``dfvortex gc``: a line for each task that is deleted, and one for all."""
    config = read_config(arguments.config)
    collected = Collector(config.storage.dir, policy_of(config.gc.policy), is_dry=arguments.dry_run).run()
    if collected.removed:
        print(f"{'TASK ID':64}  {'KIND':16}  {'FREED':>15}  REASON")
    for task in collected.removed:
        linked = "; a hard link, which frees nothing" if task.is_linked else ""
        print(f"{task.task_id:64}  {task.kind.label:16}  {task.freed:>15}  {task.reason.value}{linked}")
    would = "would be " if arguments.dry_run else ""
    removed, freed = counted(len(collected.removed), "task"), counted(collected.freed, "byte")
    print(f"{removed} {would}deleted, {freed} {would}freed, {counted(collected.in_use, 'task')} in use")
    if collected.missing:
        print(f"{counted(collected.missing, 'byte')} too many are used, and no further task can be deleted")
    return ExitStatus.DONE
