from django.apps import AppConfig

__all__ = ["DemoConfig"]


class DemoConfig(AppConfig):
    name = "integration.demo"
    label = "onward_demo"
    verbose_name = "Demo"

    def ready(self) -> None:
        from integration.demo import celery, crash  # noqa: F401  (whoever fires a trigger publishes through it)

        crash.install()
