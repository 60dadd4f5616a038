"""A Python that starts fast: its processes are forked from one that has imported Django and Celery already.

Where a test starts ``manage.py`` again and again, most of the time goes into importing the same packages of
others. ``python()`` stands in for ``[sys.executable]`` there, and ``folder_for_path()`` goes before PATH.
Everything else is as it was: arguments, folder, environment, ``sys.path``, the three streams, the exit code;
settings are read and ``django.setup()`` runs in each process; what is ours is imported in each process.

Not for a test of signals or of crashes, and not for options of the interpreter other than ``-W`` and ``-P``.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import shlex
import shutil
import signal
import socket
import sys
import warnings
from contextlib import suppress
from functools import cache

PRELOADED = [
    "celery",
    "celery.app.base",
    "celery.fixups.django",
    "celery.worker.worker",
    "kombu.messaging",
    "kombu.pools",
    "transitions",
    "django.contrib.admin.checks",
    "django.contrib.admin.utils",
    "django.contrib.admin.widgets",
    "django.contrib.auth.checks",
    "django.contrib.auth.management",
    "django.contrib.auth.password_validation",
    "django.contrib.contenttypes.management",
    "django.contrib.messages.middleware",
    "django.contrib.sessions.backends.base",
    "django.contrib.staticfiles.checks",
    "django.contrib.staticfiles.finders",
    "django.core.mail",
    "django.core.management.commands.check",
    "django.core.management.commands.makemigrations",
    "django.core.management.commands.migrate",
    "django.core.paginator",
    "django.db.backends.sqlite3.base",
    "django.middleware.cache",
    "django.middleware.clickjacking",
    "django.middleware.common",
    "django.middleware.csrf",
    "django.middleware.security",
    "django.shortcuts",
    "django.template.defaulttags",
    "django.template.loader_tags",
    "django.template.response",
    "django.test.client",
    "django.test.runner",
    "django.utils.log",
    "django.views.csrf",
    "django.views.debug",
    "django.views.generic",
    "django.views.i18n",
]
"""What is imported once: packages of others, and of them only what asks for no settings."""

REQUEST = 1 << 16


# In the process that wants to start others


@cache
def start():
    """Start the process that the others are forked from; it ends with this one. Returns its address."""
    import subprocess
    import tempfile

    folder = tempfile.mkdtemp(prefix="onward-")
    address = os.path.join(folder, "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(16)
        number = listener.fileno()
        command = [sys.executable, "-E", "-P", __file__, "serve", str(number)]
        server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[number], close_fds=True
        )

    def end():
        server.stdin.close()
        server.wait()
        shutil.rmtree(folder)

    atexit.register(end)
    return address


def python():
    """What stands in for ``[sys.executable]``."""
    return [sys.executable, "-I", "-S", __file__, "ask", start()]


@cache
def folder_for_path():
    """A folder with a program ``python``, for those who write a command line."""
    folder = os.path.dirname(start())
    program = os.path.join(folder, "python")
    with open(program, "w") as file:
        file.write(f'#!/bin/sh\nexec {shlex.join(python())} "$@"\n')
    os.chmod(program, 0o700)
    return folder


# The program that stands in for Python


def ask(address, *arguments):
    """Have the arguments run with our streams; returns the exit code."""
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    message = json.dumps(request).encode() + b"\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        sent = socket.send_fds(connection, [message], [0, 1, 2])
        connection.sendall(message[sent:])
        code = int(connection.recv(REQUEST) or b"70")
    return code if code >= 0 else 128 - code  # a signal, as a shell tells it


# The server


def preload():
    for name in PRELOADED:
        with suppress(ModuleNotFoundError):  # other versions have other modules
            importlib.import_module(name)
    from django.conf import settings

    assert not settings.configured
    gc.collect()
    gc.freeze()


def serve(listener):
    """Fork a process for every request. Returns in that process, with what it shall run."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running = {}
    while True:
        ready, _, _ = select.select([sys.stdin, reader, listener, *running.values()], [], [])
        for pid, connection in running.items():
            if connection in ready or sys.stdin in ready:  # nobody waits for it any more
                os.killpg(pid, signal.SIGKILL)
        if sys.stdin in ready:
            sys.exit()
        if reader in ready:
            os.read(reader, REQUEST)
            reap(running)
        if listener in ready:
            connection, _ = listener.accept()
            request, streams = received(connection)
            pid = os.fork()
            if pid == 0:
                for file in (connection, listener, *running.values()):
                    file.close()
                os.close(reader)
                return request, streams
            os.setpgid(pid, pid)
            for stream in streams:
                os.close(stream)
            running[pid] = connection


def reap(running):
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with running.pop(pid) as connection, suppress(OSError):
                connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())


def received(connection):
    message, streams, _, _ = socket.recv_fds(connection, REQUEST, 3)
    while not message.endswith(b"\n"):
        message += connection.recv(REQUEST)
    return json.loads(message), streams


# The process that was forked


def become(request, streams):
    """Be the process that the request describes, but for what it runs."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(PermissionError):  # the server has done it
        os.setpgid(0, 0)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        os.dup2(streams[number], number)
        os.close(streams[number])
        # Made anew: a file of Python knows whether what it stands for is a terminal, or can be sought in.
        was = getattr(sys, name)
        file = open(number, mode, encoding=was.encoding, errors=was.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdout.reconfigure(write_through=unbuffered)
    sys.stderr.reconfigure(write_through=unbuffered, line_buffering=not unbuffered)
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [os.path.abspath(path) for path in paths if path]
    importlib.invalidate_caches()


def run(arguments):
    """What the interpreter does with its command line."""
    options, arguments = [], list(arguments)
    while arguments[0] in ("-W", "-P"):
        options.append(arguments.pop(0))
        if options[-1] == "-W":
            warnings.simplefilter(arguments.pop(0))
    kind = arguments.pop(0) if arguments[0] in ("-c", "-m") else ""
    what, sys.argv = arguments[0], [kind or arguments[0], *arguments[1:]]
    if kind == "" and what.startswith("-"):
        sys.exit(f"{what} is not for this Python: start sys.executable.")
    if "-P" not in options:
        sys.path.insert(0, {"-c": "", "-m": os.getcwd()}.get(kind, os.path.dirname(os.path.realpath(what))))
    if kind == "-c":
        main = sys.modules["__main__"] = type(sys)("__main__")
        exec(compile(what, "<string>", "exec"), vars(main))
    elif kind == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(what, run_name="__main__")


if __name__ == "__main__":
    role, place, *rest = sys.argv[1:]
    if role == "ask":
        sys.exit(ask(place, *rest))
    preload()
    wanted, descriptors = serve(socket.socket(fileno=int(place)))
    become(wanted, descriptors)
    run(wanted["arguments"])
