"""The bodies of the letters' stages."""

from integration.tasks import stage_task

runs = []
"""What ran: the task, the primary key."""


@stage_task("oddities.sort", acks_late=True, rate_limit="900/s")
def sort(stage):
    """Sort a letter."""
    runs.append(("oddities.sort", stage.row.pk))


@stage_task("oddities.stamp")
def stamp(stage):
    runs.append(("oddities.stamp", stage.row.pk))


@stage_task("oddities.work")
def work(stage):
    runs.append(("oddities.work", stage.row.pk))
