"""Django settings of the tests: SQLite in a file, or the database that DATABASE_URL names."""

import os
import tempfile
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

# Every process of a parallel run has a file of its own: worker threads need more than a memory database.
_FOLDER = Path(tempfile.gettempdir()) / f"onward-tests-{os.getuid()}"
_FOLDER.mkdir(exist_ok=True)


def _sqlite(name):
    file = _FOLDER / f"{name}-{os.getpid()}.sqlite3"
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": file,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
        },
        "TEST": {"NAME": file},
    }


def _database(url):
    if not url:
        return _sqlite("default")
    parts = urlsplit(url)
    engines = {"postgresql": "postgresql", "postgres": "postgresql", "mysql": "mysql", "mariadb": "mysql"}
    if engines[parts.scheme] == "mysql":
        import pymysql

        pymysql.install_as_MySQLdb()
    return {
        "ENGINE": f"django.db.backends.{engines[parts.scheme]}",
        "NAME": parts.path.lstrip("/"),
        "USER": parts.username or "",
        "PASSWORD": parts.password or "",
        "HOST": parts.hostname or "",
        "PORT": parts.port or "",
        "TEST": {"NAME": f"test_onward_{os.getpid()}"},
    }


DATABASES = {"default": _database(os.environ.get("DATABASE_URL"))}
SECRET_KEY = "tests"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "integration",
    "integration.onboarding",
    "tests.papers",
    "tests.oddities",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "tests.urls"

STATEMACHINE_GRACE = timedelta(seconds=1)
STATEMACHINE_BACKOFF = timedelta(seconds=1)

# Users of tests log in; their passwords are nobody's secret.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
