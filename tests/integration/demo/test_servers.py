"""The demo on servers, with ordinary workers that are killed with SIGKILL and started again."""

import os
from urllib.parse import urlsplit

import pytest

pytest.importorskip("pygit2")
pytest.importorskip("rich")

from integration.demo.ledger import lines
from integration.onboarding.machine import onboarding
from tests.integration.demo.played import log, newest, play
from tests.integration.onboarding.repositories import grown
from tests.services import address

pytestmark = pytest.mark.services

NAME = f"onward_demo_{os.getpid()}"


def postgresql():
    psycopg = pytest.importorskip("psycopg")
    url = address("postgresql")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {NAME}")
    yield urlsplit(url)._replace(path=f"/{NAME}").geturl()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def mariadb():
    pymysql = pytest.importorskip("pymysql")
    parts = urlsplit(address("mariadb"))
    known = {"host": parts.hostname, "port": parts.port or 3306, "user": parts.username}
    connection = pymysql.connect(**known, password=parts.password or "", autocommit=True)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {NAME} CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
        yield parts._replace(scheme="mariadb", path=f"/{NAME}").geturl()
        cursor.execute(f"DROP DATABASE {NAME}")


@pytest.fixture
def database(request):
    yield from {"postgresql": postgresql, "mariadb": mariadb}[request.param]()


@pytest.fixture
def broker(request):
    return address(request.param)


@pytest.mark.parametrize(
    ("database", "broker"),
    [("postgresql", "redis"), ("postgresql", "amqp"), ("mariadb", "redis")],
    indirect=True,
)
def test_workers_that_are_killed_lose_nothing_and_do_nothing_twice(database, broker, tmp_path):
    repository = grown(tmp_path / "repository").path
    played = play(repository, "--kill", cache=tmp_path, DATABASE_URL=database, BROKER_URL=broker)
    assert played.code == 0, played.output
    assert played.json["violations"] == []
    assert len(played.json["kills"]) == 4
    assert len(played.json["entries"]) == len(lines(onboarding.graph))
    shas = {change["sha"] for change in played.json["changes"]}
    assert shas == log(repository, newest(repository), 0, 90)


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_server_that_keeps_the_data_needs_no_broker(database, tmp_path):
    repository = grown(tmp_path / "repository").path
    first = play(repository, cache=tmp_path, DATABASE_URL=database)
    second = play(repository, cache=tmp_path, DATABASE_URL=database)
    assert (first.code, second.code) == (0, 0), first.output + second.output
    assert first.json["teams"][0]["id"] != second.json["teams"][0]["id"]
    found = [name for name in first.json if name not in ("teams", "entries")]
    assert {name: first.json[name] for name in found} == {name: second.json[name] for name in found}
