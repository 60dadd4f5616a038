"""The pipelines, and what they leave behind: from these the storm is counted."""

from django.db import models

from chaos.project.machine import storm
from integration.models import StateField, StateMachineModel


class Pipeline(StateMachineModel):
    """A row in the storm.

    Attributes:
        poison: What its body does in `tasting`; empty for those that complete.
        to_race: How often its race fails before it is won.
        races: How often it has failed.
    """

    poison = models.CharField(max_length=10, blank=True)
    to_race = models.PositiveSmallIntegerField(default=0)
    races = models.PositiveSmallIntegerField(default=0)
    status = StateField(storm)

    def is_poisoned(self, event):
        return bool(self.poison)

    def note(self, event):
        """Leave an effect in the transaction of a trigger that no body's `finish` surrounds."""
        Effect.objects.create(pipeline=self.pk, key=f"{self.status_epoch} {event.event.name}")

    def note_race(self, event):
        self.races = Pipeline.objects.values_list("races", flat=True).get(pk=self.pk) + 1
        self.note(event)


class Effect(models.Model):
    """What a transition did, once for each; its key is not unique, so that a second one would be seen."""

    pipeline = models.BigIntegerField()
    key = models.CharField(max_length=100)


class Start(models.Model):
    """A body started; committed at once."""

    pipeline = models.BigIntegerField()
    key = models.CharField(max_length=100)
    attempt = models.PositiveIntegerField()
    pid = models.PositiveIntegerField()


class Refusal(models.Model):
    """A body was told that it is superseded, when it reported or finished."""

    pipeline = models.BigIntegerField()
    key = models.CharField(max_length=100)
    attempt = models.PositiveIntegerField()
