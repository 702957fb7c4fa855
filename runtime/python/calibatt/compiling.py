"""`calibatt.compile`: runs the installed calibatt-compile."""

import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

from .abi import Error

PROGRAM = "calibatt-compile"


def _program():
    """The compiler: $CALIBATT_COMPILE, where `cmake --install` or a build put it, else PATH."""
    named = os.environ.get("CALIBATT_COMPILE")
    if named:
        return named
    tried = []
    package = Path(__file__).resolve().parent
    try:
        from . import installed
    except ImportError:
        # In the source tree: the newest build.
        builds = package.parents[2].glob("build*/bin/" + PROGRAM)
        tried += sorted(builds, key=lambda path: path.stat().st_mtime, reverse=True)
    else:
        tried.append((package / installed.COMPILER).resolve())
    for path in tried:
        if path.exists():
            return str(path)
    found = shutil.which(PROGRAM)
    if found is None:
        where = "".join(f"{path}, " for path in tried)
        raise Error(f"{PROGRAM} not found; set CALIBATT_COMPILE to it (tried: {where}PATH)")
    return found


def _arguments(options):
    """Keyword arguments as those of the command line: `share_steps=0.97` is `--share-steps 0.97`."""
    for name, value in options.items():
        option = "-j" if name == "j" else "--" + name.replace("_", "-")
        if value is True:
            yield option
        elif value is not False and value is not None:
            yield from (option, os.fspath(value) if isinstance(value, os.PathLike) else str(value))


def compile(profile, output, *, progress=None, **options):
    """Compiles a profile into a package; returns the report of the compile as a dict.

    `options` are those of `calibatt compile` with underscores: `form="runs"`, `jobs=4`,
    `cache="/shared/cache"`, `no_cache=True`. `progress` is called with a dict for everything the
    compiler tells meanwhile: `{"event": "progress", "phase": ..., "done": ..., "total": ...,
    "left_s": ...}` (seconds, or None), or `{"event": "warning" or "remark", "text": ...}`. What it raises, KeyboardInterrupt as well, ends
    the compile, and leaves no package. Raises `calibatt.Error` with the compiler's message.
    """
    command = [_program(), os.fspath(profile), "-o", os.fspath(output), "--json",
               "--progress", "json", *_arguments(options)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        import threading
        # On a thread of its own: a report is larger than a pipe.
        report = []
        reader = threading.Thread(target=lambda: report.append(process.stdout.read()))
        reader.start()
        words = []
        try:
            for line in process.stderr:
                text = line.decode(errors="replace")
                try:
                    event = json.loads(text)
                except ValueError:
                    words.append(text)
                    continue
                if progress is not None:
                    progress(event)
        except BaseException:
            process.terminate()  # it removes what it has begun
            process.stderr.read()
            raise
        finally:
            reader.join()
    if process.returncode != 0:
        message = "".join(words).strip() or f"{PROGRAM}: ended with {process.returncode}"
        raise Error(message.removeprefix(f"{PROGRAM}: error: "), status=None)
    return json.loads(report[0])
