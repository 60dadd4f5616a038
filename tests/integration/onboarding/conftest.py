import pytest

from tests.integration.onboarding.repositories import Repository, grown


@pytest.fixture(scope="session")
def grown_repository(tmp_path_factory) -> Repository:
    """A repository with merges, renames, a mailmap, co-authors, time zones and odd encodings. Read only."""
    return grown(tmp_path_factory.mktemp("repositories") / "grown")


@pytest.fixture
def team(grown_repository, db):
    from integration.onboarding.models import Team

    return Team.objects.create(name="Grown", source=str(grown_repository.path))
