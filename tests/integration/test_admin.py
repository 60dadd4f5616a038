"""The admin, as a browser meets it."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.urls import path, reverse

from integration.admin import EntryAdmin, StateMachineModelAdmin
from integration.entries import Entry
from tests.papers.machine import review
from tests.papers.models import Journal, Paper

site = admin.AdminSite(name="statemachine_tests")


@admin.register(Paper, site=site)
class PaperAdmin(StateMachineModelAdmin):
    list_display = ["title", "status"]


site.register(Journal, StateMachineModelAdmin)
site.register(Entry, EntryAdmin)

urlpatterns = [path("tests/", site.urls), path("admin/", admin.site.urls)]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@pytest.fixture
def browser(admin_client):
    return Browser(admin_client)


PUBLISHED = {"published_at_0": "2020-01-01", "published_at_1": "00:00:00"}


class Browser:
    def __init__(self, client):
        self.client = client

    def get(self, name, *arguments, **query):
        return self.client.get(reverse(f"statemachine_tests:{name}", args=arguments), query)

    def post(self, name, *arguments, **data):
        answer = self.client.post(reverse(f"statemachine_tests:{name}", args=arguments), data, follow=True)
        return [str(message) for message in answer.context["messages"]]

    def press(self, row, **data):
        """Send the form of a row's page, as one of its buttons does."""
        form = {"title": "A paper", "worth": "on", "error": "x", "id": row.pk, **PUBLISHED}
        return self.post(f"papers_{row._meta.model_name}_change", row.pk, **{**form, **data})

    def act(self, action, *rows):
        name = f"papers_{rows[0]._meta.model_name}_changelist"
        return self.post(name, action=action, _selected_action=[row.pk for row in rows])


def clerk(client, *permissions):
    """Log in somebody who may do only this."""
    user = User.objects.create_user("clerk", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return Browser(client)


# Entries


def test_entries_are_registered():
    assert isinstance(admin.site._registry[Entry], EntryAdmin)


def test_entries_are_listed_with_progress_and_age(browser):
    paper = Paper.objects.create(status="checking")
    Entry.objects.update(progress={"done": 3, "total": 12}, error="ValueError: no luck")
    page = browser.get("statemachine_entry_changelist")
    for text in ("papers.paper", str(paper.pk), "checking", "3 of 12 (25 %)", "0\xa0minutes", "no luck"):
        assert text in page.content.decode()


@pytest.mark.parametrize(
    ("progress", "told"),
    [(None, ""), ({"done": 3, "total": None}, "3"), ({"done": 0, "total": 4}, "0 of 4 (0 %)"), ([1], "")],
)
def test_progress_is_told_as_far_as_it_is_known(progress, told):
    assert EntryAdmin(Entry, site).done(Entry(progress=progress)) == told


@pytest.mark.parametrize(
    ("pending", "states"),
    [
        ("", {"draft", "checking", "scoring"}),
        ("open", {"draft", "checking", "scoring"}),
        ("overdue", {"checking"}),
        ("parked", {"scoring"}),
        ("left", set()),
    ],
)
def test_entries_are_filtered_by_what_is_pending(browser, pending, states):
    for state in ("draft", "checking", "scoring"):
        Paper.objects.create(status=state)
    Entry.objects.filter(state="checking").update(due_at="2020-01-01T00:00:00Z")
    Entry.objects.filter(state="scoring").update(due_at=None, error="stuck")
    page = browser.get("statemachine_entry_changelist", **({"pending": pending} if pending else {}))
    assert {entry.state for entry in page.context["cl"].queryset} == states


def test_entries_are_searched_by_row_reason_and_person(browser):
    paper, _ = Paper.objects.create(), Paper.objects.create()
    review.to_state(paper, "rejected", reason="it was spam", by="ada")
    for query, found in (("spam", 1), ("ada", 1), (str(paper.pk), 2), ("nothing", 0)):
        page = browser.get("statemachine_entry_changelist", q=query)
        assert page.context["cl"].queryset.count() == found, query


def test_an_entry_can_be_looked_at_and_not_changed(browser):
    Paper.objects.create()
    entry = Entry.objects.get()
    page = browser.get("statemachine_entry_change", entry.pk)
    assert page.status_code == 200
    assert 'name="_save"' not in page.content.decode()
    assert browser.client.post(page.request["PATH_INFO"], {"state": "published"}).status_code == 403
    assert browser.get("statemachine_entry_add").status_code == 403
    assert browser.get("statemachine_entry_delete", entry.pk).status_code == 403
    entry.refresh_from_db()
    assert entry.state == "draft"


def test_somebody_without_the_permission_sees_no_entries(client):
    assert clerk(client, "view_paper").get("statemachine_entry_changelist").status_code == 403


# The page of a row


def test_status_and_epoch_are_shown_and_cannot_be_typed(browser):
    paper = Paper.objects.create()
    page = browser.get("papers_paper_change", paper.pk).content.decode()
    assert '<div class="readonly">Draft</div>' in page
    assert 'name="status"' not in page
    assert 'name="status_epoch"' not in page


def test_typing_a_status_anyway_changes_nothing(browser):
    paper = Paper.objects.create()
    browser.press(paper, status="published", status_epoch="9")
    paper.refresh_from_db()
    assert (paper.status, paper.status_epoch) == ("draft", 0)


def test_a_row_that_is_added_begins_in_the_initial_state(browser):
    assert browser.get("papers_paper_add").status_code == 200
    browser.post("papers_paper_add", title="New", error="x", **PUBLISHED)
    assert Paper.objects.get().entries.get().state == "draft"


def buttons(page):
    return [
        (trigger, pipeline["field"].name)
        for pipeline in page.context["pipelines"]
        for trigger, _ in pipeline["triggers"]
    ]


def test_there_is_a_button_for_each_trigger_that_may_be_fired_now(browser):
    draft = Paper.objects.create()
    page = browser.get("papers_paper_change", draft.pk)
    assert buttons(page) == [("submit", "status"), ("note", "status")]
    assert '<button type="submit" class="button" name="_fire" value="status:submit">Submit</button>' in (
        page.content.decode()
    )


def test_there_is_no_button_for_what_a_guard_refuses_or_a_task_alone_fires(browser):
    refused = Paper.objects.create(status="rejected", worth=False)
    assert buttons(browser.get("papers_paper_change", refused.pk)) == [("discard", "status")]
    working = Paper.objects.create(status="checking")
    assert buttons(browser.get("papers_paper_change", working.pk)) == []


def test_a_row_in_a_state_that_nobody_knows_can_be_shown_and_recovered(browser):
    Paper.objects.bulk_create([Paper(status="forgotten")])
    paper = Paper.objects.get()
    page = browser.get("papers_paper_change", paper.pk)
    assert "forgotten (unknown)" in page.content.decode()
    told = browser.press(paper, _jump="status", _state_status="draft", _reason_status="renamed")
    assert told == [f"Paper {paper.pk} was put into 'draft'."]


def test_two_fields_have_buttons_of_their_own(browser):
    journal = Journal.objects.create()
    page = browser.get("papers_journal_change", journal.pk)
    assert buttons(page) == [("submit", "status"), ("note", "status"), ("start", "print_status")]
    browser.press(journal, _fire="print_status:start")
    journal.refresh_from_db()
    assert (journal.status, journal.print_status) == ("draft", "printing")


def test_a_button_fires_its_trigger_and_keeps_who_pressed_it(browser):
    paper = Paper.objects.create()
    assert browser.press(paper, _fire="status:submit") == [f"Submit: Paper {paper.pk} is in 'checking' now."]
    entry = paper.entries.get(open=True)
    assert (entry.state, entry.by) == ("checking", "admin")


def test_a_button_saves_what_was_typed_beside_it(browser):
    paper = Paper.objects.create()
    browser.press(paper, title="New", _fire="status:submit")
    paper.refresh_from_db()
    assert (paper.title, paper.status) == ("New", "checking")


def test_a_button_of_a_page_that_is_stale_is_an_error_and_no_move(browser):
    paper = Paper.objects.create()
    paper.submit()
    (told,) = browser.press(paper, _fire="status:submit")
    assert "checking" in told
    paper.refresh_from_db()
    assert (paper.status, paper.status_epoch) == ("checking", 1)


def test_a_button_whose_guard_refuses_says_so(browser):
    paper = Paper.objects.create(status="rejected")
    told = browser.press(paper, worth="", _fire="status:revise")
    assert told == [f"Revise: a guard refused to move Paper {paper.pk}."]


def test_a_row_is_put_into_a_state_with_a_reason(browser):
    paper = Paper.objects.create(status="checking")
    told = browser.press(paper, _jump="status", _state_status="rejected", _reason_status=" it was spam ")
    assert told == [f"Paper {paper.pk} was put into 'rejected'."]
    entry = paper.entries.get(open=True)
    assert (entry.trigger, entry.state, entry.reason, entry.by) == (
        "to_state",
        "rejected",
        "it was spam",
        "admin",
    )


def test_a_row_is_not_put_anywhere_without_a_reason(browser):
    paper = Paper.objects.create()
    (told,) = browser.press(paper, _jump="status", _state_status="rejected", _reason_status=" ")
    assert "needs a reason" in told
    paper.refresh_from_db()
    assert paper.status == "draft"


def test_a_button_of_a_field_that_there_is_not_saves_as_always(browser):
    paper = Paper.objects.create()
    (told,) = browser.press(paper, _fire="state:submit")
    assert "was changed successfully" in told


def test_who_may_only_look_has_no_buttons_and_cannot_press_them(client):
    paper = Paper.objects.create()
    browser = clerk(client, "view_paper")
    page = browser.get("papers_paper_change", paper.pk)
    assert page.status_code == 200
    assert "pipelines" not in page.context
    answer = client.post(page.request["PATH_INFO"], {"title": "x", "error": "x", "_fire": "status:submit"})
    assert answer.status_code == 403
    paper.refresh_from_db()
    assert paper.status == "draft"


# The list


def test_the_list_has_an_action_for_each_trigger_that_people_fire(browser):
    Paper.objects.create()
    page = browser.get("papers_paper_changelist")
    names = [
        name for name, _ in page.context["action_form"].fields["action"].choices if name.startswith("fire_")
    ]
    assert names == ["fire_status_submit", "fire_status_note", "fire_status_revise", "fire_status_discard"]


def test_an_action_fires_each_row_and_says_who_could_not(browser):
    first, second, working = [
        Paper.objects.create(status=status) for status in ("draft", "draft", "checking")
    ]
    told = browser.act("fire_status_submit", first, second, working)
    assert any("submit" in text and "checking" in text for text in told)
    assert "Submit: 2 moved." in told
    assert Paper.objects.in_state("checking").count() == 3
    assert first.entries.get(open=True).by == "admin"


def test_an_action_says_whom_a_guard_refused(browser):
    paper = Paper.objects.create(status="rejected", worth=False)
    assert browser.act("fire_status_revise", paper) == [f"Revise: a guard refused to move Paper {paper.pk}."]


def test_actions_of_two_fields_name_the_field(browser):
    Journal.objects.create()
    page = browser.get("papers_journal_changelist")
    labels = dict(page.context["action_form"].fields["action"].choices)
    assert labels["fire_print_status_start"] == "print status: Start"


def test_who_may_only_look_has_no_actions(client):
    paper = Paper.objects.create()
    browser = clerk(client, "view_paper")
    assert "fire_status_submit" not in browser.get("papers_paper_changelist").content.decode()
    browser.client.post(
        reverse("statemachine_tests:papers_paper_changelist"),
        {"action": "fire_status_submit", "_selected_action": [paper.pk]},
    )
    paper.refresh_from_db()
    assert paper.status == "draft"


def test_an_admin_that_wants_no_actions_has_none():
    class NoActions(StateMachineModelAdmin):
        actions = None

    assert NoActions(Paper, site).actions is None


def test_an_admins_own_actions_are_kept():
    class OwnActions(StateMachineModelAdmin):
        actions = ["shred"]

    names = [getattr(action, "__name__", action) for action in OwnActions(Paper, site).actions]
    assert names[:2] == ["shred", "fire_status_submit"]
    assert StateMachineModelAdmin.actions == ()


def test_a_popup_has_no_actions(browser):
    Paper.objects.create()
    assert "fire_status_submit" not in browser.get("papers_paper_changelist", _popup="1").content.decode()


def test_deleting_in_the_admin_deletes_the_entries(browser):
    paper = Paper.objects.create()
    browser.post("papers_paper_delete", paper.pk, post="yes")
    assert not Paper.objects.exists()
    assert not Entry.objects.exists()
