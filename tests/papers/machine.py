from datetime import timedelta

from statemachine import Enqueue, State, StateMachine

review = StateMachine(
    name="review",
    states=[
        State("draft", label="Draft", waits_for="the author"),
        State("checking", on_enter=Enqueue("papers.check", max_attempts=3), phase="editing"),
        State(
            "scoring",
            on_enter=[Enqueue("papers.score", kwargs={"scale": 5}), Enqueue("papers.explain")],
            phase="editing",
        ),
        State("published", final=True, tags=["visible"], stamps="published_at"),
        State("rejected", waits_for="the author", after=(timedelta(days=30), "discard")),
        State("discarded", final=True),
    ],
    transitions=[
        {"trigger": "submit", "source": "draft", "dest": "checking"},
        {"trigger": "advance", "source": "checking", "dest": "scoring"},
        {"trigger": "advance", "source": "scoring", "dest": "published"},
        {
            "trigger": "fail",
            "source": ["checking", "scoring"],
            "dest": "rejected",
            "before": "keep_error",
            "writes": "error",
        },
        {"trigger": "revise", "source": "rejected", "dest": "draft", "conditions": "is_worth_it"},
        {"trigger": "discard", "source": "rejected", "dest": "discarded"},
        {"trigger": "note", "source": "draft", "dest": None, "after": "count_note"},
    ],
    initial="draft",
    goal="published",
)

printing = StateMachine(
    name="printing",
    states=[
        State("waiting", waits_for="the printer"),
        State("printing", on_enter=Enqueue("papers.print")),
        State("printed", final=True),
        State("jammed", waits_for="the printer"),
    ],
    transitions=[
        ["start", "waiting", "printing"],
        ["advance", "printing", "printed"],
        ["fail", "printing", "jammed"],
        ["start", "jammed", "printing"],
    ],
    initial="waiting",
)
