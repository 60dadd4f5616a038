"""The Python that starts fast does what Python does."""

import json
import os
import subprocess
import sys

import pytest

from tests import processes

pytestmark = pytest.mark.slow

PROBE = """
import json, os, sys
print(json.dumps({
    "name": __name__,
    "arguments": sys.argv,
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "path": sys.path,
    "read": sys.stdin.read(),
    "leads a group": os.getpgrp() == os.getpid(),
    "writes bytecode": not sys.dont_write_bytecode,
    "ours": sorted({"statemachine", "integration", "tests", "mysite"} & set(sys.modules)),
    "streams": [(f.encoding, f.errors) for f in (sys.stdin, sys.stdout, sys.stderr)],
    "buffers": [(f.line_buffering, f.write_through) for f in (sys.stdout, sys.stderr)],
}))
print("a word", file=sys.stderr)
sys.exit(3)
"""


def told(python, *arguments, cwd, **environment):
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*python, *arguments],
        cwd=cwd,
        env={**plain, "PYTHONPATH": f"{cwd}/other", **environment},
        input="what is read",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr, json.loads(done.stdout)


@pytest.mark.parametrize(
    "arguments",
    [["-c", PROBE, "--one", "two"], ["-m", "probe", "-v"], ["probe.py", "x y"], ["-P", "-m", "probe"]],
)
@pytest.mark.parametrize(
    "environment", [{}, {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "COLOUR": "grün"}]
)
def test_a_forked_process_is_told_what_a_real_one_is_told(arguments, environment, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "probe.py").write_text(PROBE)
    (tmp_path / "other/probe.py").write_text(PROBE)
    forked = told(processes.python(), *arguments, cwd=tmp_path, **environment)
    real = told([sys.executable], *arguments, cwd=tmp_path, **environment)
    assert forked[2].pop("leads a group")
    del real[2]["leads a group"]
    assert forked == real
    assert forked[2]["ours"] == []


def run(*arguments, **options):
    return subprocess.run(
        [*processes.python(), *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_warnings_are_errors_where_the_command_says_so():
    code = "import warnings; warnings.warn('no')"
    assert run("-c", code).returncode == 0
    done = run("-W", "error", "-c", code)
    assert done.returncode == 1
    assert "UserWarning: no" in done.stderr


def test_a_folder_for_path_has_a_python(tmp_path):
    path = os.pathsep.join([processes.folder_for_path(), os.environ["PATH"]])
    command = """python -c 'import sys; print(sys.argv)' "a b" """
    done = subprocess.run(command, shell=True, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout == "['-c', 'a b']\n"


def test_one_process_leaves_nothing_to_the_next():
    assert run("-c", "import sys, os; sys.left = os.environ['LEFT'] = '1'").returncode == 0
    assert (
        run("-c", "import sys, os; print(hasattr(sys, 'left'), 'LEFT' in os.environ)").stdout
        == "False False\n"
    )


def test_no_settings_are_there_until_the_process_has_its_own():
    code = "from django.conf import settings; print(settings.configured); print(settings.ROOT_URLCONF)"
    done = run(
        "-c", code, env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": os.getcwd()}
    )
    assert done.stdout == "False\ntests.urls\n"


def test_a_signal_is_told_as_a_shell_tells_it():
    assert run("-c", "import os; os.kill(os.getpid(), 15)").returncode == 128 + 15


def test_a_process_that_nobody_waits_for_any_more_is_killed():
    code = "import os, sys, time; os.fork(); print(os.getpid(), flush=True); time.sleep(600)"
    with subprocess.Popen([*processes.python(), "-c", code], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.readline()
        process.kill()
        # The end of the file: nobody is left who could write.
        assert process.stdout.read() == ""


def test_an_option_that_cannot_be_kept_is_refused():
    done = run("-O", "-c", "pass")
    assert done.returncode == 1
    assert done.stderr == "-O is not for this Python: start sys.executable.\n"
