"""Settings in a hurry: leases of a second, so that a minute of storm holds many of everything."""

import os
from datetime import timedelta
from urllib.parse import urlsplit

_database = urlsplit(os.environ["CHAOS_DATABASE_URL"])

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _database.path.lstrip("/"),
        "USER": _database.username or "",
        "PASSWORD": _database.password or "",
        "HOST": _database.hostname or "",
        "PORT": _database.port or "",
        # The proxy reads what passes, to lose the reply to a COMMIT.
        "OPTIONS": {"sslmode": "disable", "gssencmode": "disable", "connect_timeout": 5},
    }
}
INSTALLED_APPS = ["integration", "chaos.project"]
SECRET_KEY = "chaos"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING_CONFIG = None

STATEMACHINE_LEASE = timedelta(seconds=1)
STATEMACHINE_GRACE = timedelta(seconds=1)
STATEMACHINE_BACKOFF = timedelta(milliseconds=200)
STATEMACHINE_MAX_BACKOFF = timedelta(seconds=2)
STATEMACHINE_SWEEP_EVERY = timedelta(milliseconds=300)
STATEMACHINE_ADOPT_EVERY = timedelta(seconds=1)
STATEMACHINE_CIRCUIT = timedelta(milliseconds=500)

CELERY_BROKER_URL = os.environ["CHAOS_BROKER_URL"]
CELERY_TASK_DEFAULT_QUEUE = os.environ["CHAOS_QUEUE"]
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {"global_keyprefix": f"{CELERY_TASK_DEFAULT_QUEUE}:"} if CELERY_BROKER_URL.startswith("redis") else {}
)
CELERY_TASK_ACKS_LATE = os.environ.get("CHAOS_ACKS_LATE") == "1"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False  # it would leave queues of its own behind
CELERY_WORKER_HIJACK_ROOT_LOGGER = True
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CONNECTION_TIMEOUT = 2
