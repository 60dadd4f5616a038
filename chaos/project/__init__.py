"""A small Django project whose pipelines live through the storm."""

from chaos.project.celery import app

__all__ = ["app"]
