"""The Django application, under the label ``statemachine``."""

from django.apps import AppConfig

__all__ = ["StateMachineConfig"]


class StateMachineConfig(AppConfig):
    name = "integration"
    label = "statemachine"
    verbose_name = "State machine"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from integration import checks, tasks  # noqa: F401  (checks register, tasks carry messages)

        tasks.answer_former_names()
