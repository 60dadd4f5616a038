"""A Celery application of a test's own."""

from contextlib import contextmanager

from celery import Celery

from integration import tasks
from integration.dispatch import set_publisher
from integration.tasks import CeleryPublisher


@contextmanager
def application(broker="memory://", **conf):
    """What this process sends with while the context lasts, through a publisher of its own."""
    before = tasks.current_app._get_current_object()
    app = Celery("tests", broker=broker, set_as_current=False)
    app.conf.update(conf)
    app.set_current()
    app.set_default()
    app.finalize()
    own = CeleryPublisher()
    publisher = set_publisher(own)
    try:
        yield app
    finally:
        set_publisher(publisher)
        own.close()
        before.set_current()
        before.set_default()
        app.close()
