"""An OpenAI-compatible endpoint as the analyst, against a real server on this machine."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from integration.onboarding.adapters import analyst_for, rest
from integration.onboarding.adapters.openai import OpenAIAnalyst
from integration.onboarding.ports import (
    Analysis,
    Analyst,
    AnalystError,
    AnalystUnavailable,
    Change,
    Insight,
    Person,
)

from .loopback import Asked, Loopback, Reply, loopback

AT = datetime(2026, 3, 1, tzinfo=UTC)
CHANGE = Change(
    "a" * 40, "commit", Person("Ada", "ada@example.org"), (), AT, AT, "Tidy up", "Why.", 3, 1, 1, ("a.py",)
)
INSIGHTS = [Insight("busiest_week", "Busiest week", "It was busy.", evidence={"changes": 3})]


def changes(count: int) -> list[Change]:
    return [replace(CHANGE, sha=f"{n:040d}") for n in range(count)]


def completion(content: Any) -> Reply:
    text = content if isinstance(content, str) else json.dumps(content)
    return Reply({"choices": [{"message": {"role": "assistant", "content": text}}]})


def obedient(asked: Asked) -> Reply:
    """Answers as a good model does, in another order than it was asked."""
    sent = json.loads(asked.body["messages"][1]["content"])
    said = [{"sha": one["sha"], "kind": "refactor", "summary": f"Tidies {one['title']}"} for one in sent]
    return completion({"changes": said[::-1]})


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@contextmanager
def serving(reply: Any) -> Iterator[tuple[OpenAIAnalyst, Loopback]]:
    """An analyst whose server answers with a reply, or with what a function of the request returns."""
    with loopback(reply if callable(reply) else lambda _: reply) as server:
        yield (
            OpenAIAnalyst(server.url + "/v1", model="m", api_key="secret", timeout=timedelta(seconds=5)),
            server,
        )


def test_every_change_is_analysed_in_order_by_batches() -> None:
    with serving(obedient) as (analyst, server):
        analyst.batch = 2
        said = analyst.analyse(changes(5))
    assert said == [Analysis(one.sha, "refactor", False, "", "Tidies Tidy up") for one in changes(5)]
    assert [len(json.loads(asked.body["messages"][1]["content"])) for asked in server.asked] == [2, 2, 1]


def test_the_request_is_a_chat_completion_with_the_key_and_nothing_optional() -> None:
    with serving(obedient) as (analyst, server):
        analyst.analyse([CHANGE])
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.body.keys() == {"model", "messages"}
    assert [message["role"] for message in asked.body["messages"]] == ["system", "user"]


def test_without_changes_or_insights_nobody_is_asked() -> None:
    with serving(obedient) as (analyst, server):
        assert (analyst.analyse([]), analyst.summarise([])) == ([], "")
    assert server.asked == []


def test_the_facts_about_tools_come_from_the_change_and_not_from_the_model() -> None:
    claimed = {"sha": CHANGE.sha, "kind": "fix", "summary": "x", "ai_assisted": True, "ai_tool": "Skynet"}
    marked = replace(CHANGE, body="Assisted-by: Claude Code")
    with serving(completion({"changes": [claimed]})) as (analyst, _):
        assert not analyst.analyse([CHANGE])[0].ai_assisted
        assert analyst.analyse([marked])[0].ai_tool == "Claude"


@pytest.mark.parametrize(
    "wrapped",
    ["{}", "```json\n{}\n```", "Here you are:\n```\n{}\n```\nEnjoy!"],
)
def test_json_is_found_between_fences(wrapped: str) -> None:
    said = json.dumps([{"sha": CHANGE.sha, "kind": " Fix ", "summary": "One\n  line\0"}])
    with serving(completion(wrapped.replace("{}", said))) as (analyst, _):
        assert analyst.analyse([CHANGE]) == [Analysis(CHANGE.sha, "fix", False, "", "One line")]


GOOD = {"sha": CHANGE.sha, "kind": "fix", "summary": "x"}
USELESS: list[tuple[Reply, str]] = [
    (Reply("<html>"), "the answer is not JSON"),
    (Reply("[" * 100_000), "the answer is not JSON"),
    (Reply({}), "has no text"),
    (Reply({"choices": []}), "has no text"),
    (Reply({"choices": [{"message": {"content": None}}]}), "has no text"),
    (Reply([1]), "has no text"),
    (completion("Sorry, I cannot do that."), "not the JSON that was asked for"),
    (completion({"changes": "none"}), "no list of changes"),
    (completion({"changes": [1]}), "lacks its sha, kind or summary"),
    (completion({"changes": [{**GOOD, "summary": 7}]}), "lacks its sha, kind or summary"),
    (completion({"changes": [{**GOOD, "summary": " \0 "}]}), "has no summary"),
    (completion({"changes": [{**GOOD, "kind": "magic"}]}), "'magic' is no kind"),
    (completion({"changes": [{**GOOD, "sha": "b" * 40}]}), "the change aaaaaaaaaaaa is missing"),
    (completion({"changes": []}), "the change aaaaaaaaaaaa is missing"),
]


@pytest.mark.parametrize(("reply", "cause"), USELESS)
def test_a_useless_answer_may_be_better_the_next_time(reply: Reply, cause: str) -> None:
    with serving(reply) as (analyst, _), pytest.raises(AnalystUnavailable, match=cause):
        analyst.analyse([CHANGE])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 302])
def test_a_refusal_that_stays_is_permanent_and_says_what_to_do(status: int) -> None:
    reply = Reply({"error": {"message": "no such model"}}, status, {"Location": "/elsewhere"})
    with serving(reply) as (analyst, server), pytest.raises(AnalystError) as caught:
        analyst.analyse([CHANGE])
    assert type(caught.value) is AnalystError
    assert f"status {status}: no such model. " in str(caught.value)
    assert caught.value.remedy
    assert "secret" not in str(caught.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_a_refusal_that_passes_can_be_retried(status: int) -> None:
    with (
        serving(Reply("<html>busy</html>", status)) as (analyst, _),
        pytest.raises(AnalystUnavailable) as caught,
    ):
        analyst.analyse([CHANGE])
    assert caught.value.retry_at is None
    assert f"status {status}: HTTP status {status}" in str(caught.value)


@pytest.mark.parametrize("said", ["120", "Sun, 01 Mar 2099 12:00:00 GMT", "soon"])
def test_a_rate_limit_says_when_to_come_back(said: str) -> None:
    with (
        serving(Reply({}, 429, {"Retry-After": said})) as (analyst, _),
        pytest.raises(AnalystUnavailable) as caught,
    ):
        analyst.analyse([CHANGE])
    retry_at = caught.value.retry_at
    if said == "soon":
        assert retry_at is None
    elif said == "120":
        assert retry_at is not None
        assert timedelta(0) < retry_at - datetime.now(UTC) <= timedelta(seconds=120)
    else:
        assert retry_at == datetime(2099, 3, 1, 12, tzinfo=UTC)


def test_nobody_at_the_address_can_be_retried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    analyst = OpenAIAnalyst(f"http://127.0.0.1:{port}", model="m")
    with pytest.raises(AnalystUnavailable, match="gave no answer"):
        analyst.analyse([CHANGE])


def test_a_server_that_never_answers_is_left_after_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        analyst = OpenAIAnalyst(url, model="m", timeout=timedelta(milliseconds=50))
        with pytest.raises(AnalystUnavailable, match="timed out"):
            analyst.analyse([CHANGE])


def test_an_answer_that_is_cut_off_can_be_retried() -> None:
    with serving(Reply({"choices": []}, headers={"Content-Length": "1000"})) as (analyst, _):
        analyst.timeout = timedelta(milliseconds=200)
        with pytest.raises(AnalystUnavailable):
            analyst.analyse([CHANGE])


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "MAX_BYTES", 1000)
    with serving(Reply("x" * 2000)) as (analyst, _), pytest.raises(AnalystUnavailable, match="longer than"):
        analyst.analyse([CHANGE])


def test_the_facts_are_put_into_one_paragraph() -> None:
    with serving(completion("It was\n\nbusy.\0")) as (analyst, server):
        assert analyst.summarise(INSIGHTS) == "It was busy."
    assert json.loads(server.asked[0].body["messages"][1]["content"])[0]["evidence"] == {"changes": 3}


def test_an_empty_paragraph_can_be_retried() -> None:
    with serving(completion("  ")) as (analyst, _), pytest.raises(AnalystUnavailable, match="empty"):
        analyst.summarise(INSIGHTS)


def test_with_a_url_the_analyst_is_that_endpoint() -> None:
    analyst = analyst_for("https://example.org/v1/", model="m", api_key="k")
    assert isinstance(analyst, OpenAIAnalyst)
    assert isinstance(analyst, Analyst)
    assert analyst.url == "https://example.org/v1/chat/completions"


@pytest.mark.parametrize(
    ("url", "model"),
    [
        ("file:///etc/passwd", "m"),
        ("http://[", "m"),
        ("http://a b/", "m"),
        ("http://exämple.org", "m"),
        ("https://", "m"),
        ("https://example.org", ""),
    ],
)
def test_a_configuration_that_cannot_be_right_is_refused_at_once(url: str, model: str) -> None:
    with pytest.raises(AnalystError, match="not configured completely"):
        analyst_for(url, model=model)


@pytest.mark.parametrize("key", ["secret\nX-Other: 1", "sécret✓"])
def test_a_key_that_cannot_be_sent_is_not_shown(key: str) -> None:
    with serving(obedient) as (_, server):
        analyst = OpenAIAnalyst(server.url, model="m", api_key=key)
        with pytest.raises(AnalystUnavailable, match="characters that HTTP does not allow") as caught:
            analyst.analyse([CHANGE])
    assert "cret" not in str(caught.value)
