"""The bodies of the letters' stages."""

from integration.tasks import stage_task
from tests.oddities.models import HandKept

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


def nothing(stage):
    """Every task of the hand-kept pipeline."""


for name in {step.task for state in HandKept._meta.get_field("status").machine.graph for step in state.steps}:
    stage_task(name)(nothing)
