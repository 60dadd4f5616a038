"""The pipeline: two steps in a stage, two timers, a way that some must take and that ends in failure."""

from datetime import timedelta

from statemachine import Enqueue, State, StateMachine

# A kill costs a strike, and none of these is to be given up for it.
PATIENT = 1000

storm = StateMachine(
    name="storm",
    states=[
        State("created", waits_for="the storm"),
        State("fetching", on_enter=Enqueue("chaos.fetch", max_attempts=PATIENT)),
        State(
            "parsing",
            on_enter=[
                Enqueue("chaos.parse", max_attempts=PATIENT),
                Enqueue("chaos.index", max_attempts=PATIENT),
            ],
        ),
        State("resting", waits_for="a second", after=(timedelta(seconds=1), "wake")),
        State(
            "brooding",
            on_enter=Enqueue(
                # The heart stops early, so that a long body outlives its lease.
                "chaos.brood",
                max_attempts=PATIENT,
                max_runtime=timedelta(milliseconds=100),
            ),
        ),
        State("polling", on_enter=Enqueue("chaos.poll", max_attempts=PATIENT)),
        State("racing", on_enter=Enqueue("chaos.race", max_attempts=PATIENT)),
        State("cooling", waits_for="a moment", after=(timedelta(milliseconds=300), "retry")),
        State("storing", on_enter=Enqueue("chaos.store", max_attempts=PATIENT)),
        State("tasting", on_enter=Enqueue("chaos.taste", max_attempts=3)),
        State("complete", final=True),
        State("failed", final=True),
    ],
    transitions=[
        {"trigger": "start", "source": "created", "dest": "fetching", "before": "note"},
        {"trigger": "advance", "source": "fetching", "dest": "parsing"},
        {"trigger": "advance", "source": "parsing", "dest": "resting"},
        {"trigger": "wake", "source": "resting", "dest": "brooding", "before": "note"},
        {"trigger": "advance", "source": "brooding", "dest": "tasting", "conditions": "is_poisoned"},
        {"trigger": "advance", "source": "brooding", "dest": "polling"},
        {"trigger": "advance", "source": "polling", "dest": "racing"},
        {"trigger": "advance", "source": "racing", "dest": "storing"},
        {"trigger": "fail", "source": "racing", "dest": "cooling", "before": "note_race", "writes": "races"},
        {"trigger": "retry", "source": "cooling", "dest": "racing", "before": "note"},
        {"trigger": "advance", "source": "storing", "dest": "complete", "before": "note"},
        {"trigger": "advance", "source": "tasting", "dest": "complete"},
        {
            "trigger": "fail",
            "source": ["fetching", "parsing", "brooding", "polling", "storing", "tasting"],
            "dest": "failed",
            "before": "note",
        },
    ],
    initial="created",
    goal="complete",
)
