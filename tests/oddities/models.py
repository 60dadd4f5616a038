from datetime import timedelta

from django.db import models

from integration.models import StateField, StateMachineModel, StateQuerySet
from statemachine import Enqueue, State, StateMachine
from tests.examples import code_of


def pipeline(name, **first):
    """Begins in ``new``, works in ``working``, ends in ``done``; ``broken`` waits for a person."""
    return StateMachine(
        name=name,
        states=[
            State("new", waits_for="a person", **first),
            State("working", on_enter=Enqueue("oddities.work")),
            State("broken", waits_for="a person", after=(timedelta(days=1), "start"), tags=["red"]),
            State("done", final=True),
        ],
        transitions=[
            ["start", "new", "working"],
            ["start", "broken", "working"],
            ["advance", "working", "done"],
            ["fail", "working", "broken"],
            ["cancel", "working", "new"],
        ],
        initial="new",
    )


class Locked(StateMachineModel):
    """Every fire reads the row again, under a lock."""

    note = models.CharField(max_length=50, blank=True)
    status = StateField(pipeline("locked"), lock=True)


class LockedChild(Locked):
    size = models.IntegerField(default=1)


class Visible(models.Manager.from_queryset(StateQuerySet)):
    def get_queryset(self):
        return super().get_queryset().filter(hidden=False)


class Hidden(StateMachineModel):
    """A base manager that hides rows, and whose queryset refuses to update a status."""

    hidden = models.BooleanField(default=False)
    status = StateField(pipeline("hidden"))

    objects = Visible()
    everything = models.Manager()

    class Meta:
        base_manager_name = "objects"


class Shelf(models.Model):
    pass


class Book(StateMachineModel):
    """A row of another, and a manager that knows nothing of states beside one that does."""

    shelf = models.ForeignKey(Shelf, models.CASCADE, related_name="books", null=True)
    status = StateField(pipeline("book"))

    plain = models.Manager()
    objects = StateQuerySet.as_manager()


class Parcel(StateMachineModel):
    status = StateField(pipeline("parcel"))


class Express(Parcel):
    """A child with a column of its own beside the inherited one."""

    handover = StateField(pipeline("handover"), methods="handover_")


class Label(StateMachineModel):
    """A primary key that is a foreign key, and no parent link."""

    parcel = models.OneToOneField(Parcel, models.CASCADE, primary_key=True)
    status = StateField(pipeline("label"))


class Country(StateMachineModel):
    """A primary key that people choose, and a first state that is stamped."""

    code = models.CharField(max_length=2, primary_key=True)
    begun_at = models.DateTimeField(null=True)
    status = StateField(pipeline("country", stamps="begun_at"))


class Colour(models.TextChoices):
    RED = "red", "Red"
    GREEN = "green", "Green"


traffic = StateMachine(
    name="traffic",
    states=[State(Colour.RED, waits_for="a person"), State(Colour.GREEN, final=True, stamps="went_at")],
    transitions=[
        {"trigger": "go", "source": Colour.RED, "dest": Colour.GREEN, "writes": ["changed_at", "shelf"]},
        {"trigger": "crash", "source": Colour.RED, "dest": Colour.GREEN, "after": "explode"},
        {"trigger": "refuse", "source": Colour.RED, "dest": Colour.GREEN, "conditions": "never"},
    ],
    initial=Colour.RED,
)


class Light(StateMachineModel):
    """Enum states; columns that are written with the status."""

    changed_at = models.DateTimeField(auto_now=True)
    went_at = models.DateTimeField(null=True)
    shelf = models.ForeignKey(Shelf, models.CASCADE, null=True)
    note = models.CharField(max_length=50, blank=True)
    colour = StateField(traffic)

    def explode(self, event):
        self.note = "exploding"
        raise ZeroDivisionError("boom")

    def never(self, event):
        return False


class Letter(StateMachineModel):
    """States and tasks that were called something else before: rows and entries may still say so."""

    status = StateField(
        StateMachine(
            name="letter",
            states=[
                State("written", formerly="new", waits_for="the sender"),
                State(
                    "sorting",
                    formerly=("sort", "order"),
                    on_enter=[
                        Enqueue("oddities.sort", formerly="oddities.order", queue="sorters"),
                        Enqueue("oddities.stamp", formerly="oddities.mark"),
                    ],
                    tags=["inside"],
                ),
                State("lost", formerly="gone", waits_for="a finder", after=(timedelta(days=1), "drop")),
                State("delivered", formerly="done", final=True),
            ],
            transitions=[
                ["post", "written", "sorting"],
                ["advance", "sorting", "delivered"],
                ["fail", "sorting", "lost"],
                ["drop", "lost", "delivered"],
            ],
            initial="written",
        )
    )


class Envelope(models.Model):
    letter = models.ForeignKey(Letter, models.CASCADE)


class Drawer(StateMachineModel):
    """A table and columns by other names than the fields', and every kind of value among what is written."""

    key = models.AutoField(primary_key=True, db_column="the key")
    opened = models.IntegerField(default=0, db_column="group")
    inside = models.JSONField(null=True, db_column="select")
    width = models.DecimalField(max_digits=6, decimal_places=2, null=True)
    opened_at = models.DateTimeField(null=True, db_column="when")
    status = StateField(
        StateMachine(
            name="drawer",
            states=[
                State("shut", waits_for="a hand"),
                State("open", stamps="opened_at", after=(timedelta(days=1), "shut")),
            ],
            transitions=[
                {
                    "trigger": "pull",
                    "source": "shut",
                    "dest": "open",
                    "before": "count",
                    "writes": ["opened", "inside", "width"],
                },
                ["shut", "open", "shut"],
            ],
            initial="shut",
            goal="shut",
        ),
        db_column="order",
    )

    class Meta:
        db_table = "odd drawers"
        ordering = ["-opened_at"]

    def count(self, event):
        self.opened = models.F("opened") + 1
        self.inside = event.kwargs.get("inside")


class HandKept(StateMachineModel):
    """The pipeline of a page of the documentation."""

    status = StateField(code_of("hand-kept-onboarding.md").onboarding)
