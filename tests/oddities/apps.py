from django.apps import AppConfig


class OdditiesConfig(AppConfig):
    """Models as projects have them. Without migrations: their tables are made by ``migrate --run-syncdb``."""

    name = "tests.oddities"
    label = "oddities"
