"""Django and Celery for the demo: ``DATABASE_URL`` and ``BROKER_URL`` choose the servers, if any.

It is a demo: one person, one machine. Nothing in here is meant for the internet.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path

from django.core.management.utils import get_random_secret_key

from integration.demo import places

_URL = os.environ.get("DATABASE_URL") or places.default_url(str(places.repository(Path.cwd())))
DATABASES = {"default": places.database(_URL)}

if DATABASES["default"]["ENGINE"].endswith("mysql"):
    try:
        import pymysql  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        pass  # Django looks for mysqlclient, and says so when there is none
    else:
        pymysql.install_as_MySQLdb()

DEBUG = False
# A new one for every process: whoever serves the admin logs in again after a restart.
SECRET_KEY = os.environ.get("SECRET_KEY") or get_random_secret_key()
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]
ROOT_URLCONF = "integration.demo.urls"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "integration",
    "integration.onboarding",
    "integration.demo.apps.DemoConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
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

LOG_FILE = places.log_file(DATABASES["default"])
# A file, because lines between those of a live display tear it. Celery's own worker logs to the terminal.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {
        "file": {
            "class": "logging.handlers.RotatingFileHandler",
            "filename": str(LOG_FILE),
            "maxBytes": 1_000_000,
            "backupCount": 1,
            "delay": True,
            "encoding": "utf-8",
            "formatter": "line",
        }
    },
    "root": {"handlers": ["file"], "level": "WARNING"},
    "loggers": {"django": {"handlers": [], "propagate": True}},
}

CELERY_BROKER_URL = os.environ.get("BROKER_URL") or "memory://localhost"
IN_PROCESS = CELERY_BROKER_URL.startswith("memory:")
if IN_PROCESS:
    CELERY_BROKER_TRANSPORT_OPTIONS = {"polling_interval": 0.01}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# Of its own for each database: an id is an entry of one database only.
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("ONWARD_DEMO_QUEUE") or "onward-demo-" + re.sub(
    r"[^A-Za-z0-9._-]+", "-", Path(DATABASES["default"]["NAME"]).stem
)
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1

# A demo is impatient: work that is left behind is found again after a second or two. Where several processes
# work side by side, a body that holds the interpreter for seconds must not lose its lease to that.
_IMPATIENT = IN_PROCESS or "ONWARD_DEMO_KILL" in os.environ
STATEMACHINE_LEASE = timedelta(seconds=1.5 if _IMPATIENT else 10)
STATEMACHINE_GRACE = timedelta(seconds=0.5 if _IMPATIENT else 2)
STATEMACHINE_SWEEP_EVERY = timedelta(seconds=0.3 if _IMPATIENT else 1)
STATEMACHINE_BACKOFF = timedelta(seconds=1)

ONBOARDING_GITHUB_TOKEN = os.environ.get("GITHUB_TOKEN", "")
ONBOARDING_ANALYST_MODEL = os.environ.get("ANALYST_MODEL", "")
ONBOARDING_ANALYST_API_KEY = os.environ.get("ANALYST_API_KEY", "")
