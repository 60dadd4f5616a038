import uuid

from django.db import models

from integration.models import StateField, StateMachineModel, StateQuerySet
from tests.papers.machine import printing, review


class Paper(StateMachineModel):
    """One field, every kind of state."""

    title = models.CharField(max_length=100, default="A paper")
    worth = models.BooleanField(default=True)
    error = models.TextField(blank=True)
    published_at = models.DateTimeField(null=True)
    status = StateField(review)

    def is_worth_it(self, event):
        return self.worth

    def keep_error(self, event):
        self.error = event.kwargs.get("error", "")

    def count_note(self, event):
        self.title += "!"


class Remark(models.Model):
    """What a stage writes."""

    paper = models.ForeignKey(Paper, models.CASCADE)
    text = models.CharField(max_length=100, unique=True)


class Journal(StateMachineModel):
    """Two fields on a model, and a primary key that is no number."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    error = models.TextField(blank=True)
    published_at = models.DateTimeField(null=True)
    worth = models.BooleanField(default=True)
    status = StateField(review, methods="review_")
    print_status = StateField(printing, methods="print_")

    is_worth_it = Paper.is_worth_it
    keep_error = Paper.keep_error
    count_note = lambda self, event: None  # noqa: E731


class Printable(StateMachineModel):
    """An abstract parent."""

    status = StateField(printing)

    class Meta:
        abstract = True


class Leaflet(Printable):
    name = models.CharField(max_length=50, default="A leaflet")


class Poster(Printable):
    name = models.CharField(max_length=50, default="A poster")
    objects = StateQuerySet.as_manager()


class BigPoster(Poster):
    """Multi-table inheritance: the status is in the parent's table."""

    size = models.IntegerField(default=2)


class PosterProxy(Poster):
    class Meta:
        proxy = True
