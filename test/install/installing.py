"""The build to install, from the environment (see CMakeLists.txt), and how to run what it gives."""

import os
import subprocess

BUILD, SOURCE = os.environ["BUILD"], os.environ["SOURCE"]
LIBDIR, PYTHONDIR = os.environ["LIBDIR"], os.environ["PYTHONDIR"]
VERSION = os.environ["VERSION"]
HAS_COMPILER = os.environ["HAS_COMPILER"] == "1"


def start(*command, env=None, **options):
    """A finished command, in an environment that does not point into this build."""
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith(("CALIBATT_", "LD_", "PYTHON"))}
    return subprocess.run([str(word) for word in command], env={**clean, **(env or {})}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def run(*command, **options):
    """Stdout of a command that has to succeed."""
    done = start(*command, **options)
    if done.returncode:
        raise AssertionError(f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def install(prefix, *options):
    run(os.environ["CMAKE"], "--install", BUILD, "--prefix", prefix, *options)
