from statemachine import *
import pytest
from tests.papers.models import *
from integration.entries import Entry
import tests.papers.tasks


@pytest.mark.django_db
def test_a(stages, bodies, runs):
    p = Paper.objects.create()
    assert p.status_epoch == 0
    p.submit()
    print(stages.run())
    p.refresh_from_db()
    assert p.status == "published", p.status
    assert p.published_at
    print(runs, list(p.entries.values_list("epoch", "step", "trigger", "source", "state", "task", "attempt")))


@pytest.mark.django_db
def test_fail(stages, bodies, runs):
    def boom(stage):
        raise ValueError("no luck")

    bodies["papers.score"] = boom
    p = Paper.objects.create()
    p.submit()
    print(stages.run())
    p.refresh_from_db()
    assert p.status == "rejected"
    assert p.error == "ValueError: no luck"
    print(
        runs,
        list(
            p.entries.values_list(
                "epoch", "step", "trigger", "source", "state", "task", "attempt", "strikes", "reason"
            )
        ),
    )
    with pytest.raises(Exception) as e:
        p.status = "published"
    print(e.value)

    p2 = Paper.objects.get(pk=p.pk)
    p.revise()
    with pytest.raises(StaleState) as e:
        p2.discard()
    print(e.value)
    assert p2.status == "rejected"
    p.submit()
    with pytest.raises(TransitionNotAllowed) as e:
        p.advance()
    print(e.value)
    assert not p.may_advance()


@pytest.mark.django_db(transaction=True)
def test_tx(stages, bodies, runs):
    p = Paper.objects.create()

    def finish(stage):
        with stage.finish():
            Remark.objects.create(paper=stage.row, text="x")

    bodies["papers.check"] = finish
    bodies["papers.explain"] = lambda stage: stage.row.advance()
    p.submit()
    p.refresh_from_db()
    assert p.status == "published"
    b = BigPoster.objects.create()
    b.start()
    b.refresh_from_db()
    assert b.status == "printed"
    assert b.status_epoch == 2
    bodies.clear()
    j = Journal.objects.create()
    j.review_submit()
    j.print_start()
    j.refresh_from_db()
    assert (j.status, j.print_status) == ("published", "printed")
    assert j.entries.count() == 4 + 1 + 3, j.entries.count()
    Paper.objects.all().delete()
    assert not p.entries.exists()
    import integration.recovery as r

    Poster.objects.bulk_create([Poster(status="printing"), Poster(), Poster(status="nowhere")])
    print(r.scan())
    assert list(Poster.objects.values_list("status", flat=True)) == [
        "printed",
        "printed",
        "waiting",
        "nowhere",
    ]
    print(r.scan(everything=True), list(r.status()), r.sweep())
