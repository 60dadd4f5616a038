import importlib.util

# The core session has neither Django nor Celery: it collects tests/statemachine alone.
if importlib.util.find_spec("django") is not None:
    pytest_plugins = ["integration.testing", "tests.integration.plugin"]
