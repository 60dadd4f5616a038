import os

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    name = "chaos.project"
    label = "chaos"

    def ready(self):
        from chaos.project.celery import Unreliable
        from integration.dispatch import publisher, set_publisher

        failing = float(os.environ.get("CHAOS_FAILING", "0.333"))
        set_publisher(Unreliable(publisher(), failing=failing))
