"""A Slurm cluster of this machine alone, in a temporary folder: munged, slurmctld, slurmd as root."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo", "squeue")
CONFIGURATION = """
ClusterName=calibatt
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={daemon_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A job that is requeued waits until its credential has expired.
AuthInfo=socket={folder}/munge.socket,cred_expire=3
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1
MpiDefault=none
AccountingStorageType=accounting_storage/none
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Why there can be no cluster here, or None."""
    absent = [name for name in PROGRAMS if not _path(name)]
    if absent:
        return f"{', '.join(absent)} not installed (.ci/install-deps --slurm)"
    if os.geteuid() != 0:
        return "starting slurmd needs root"
    return None


def _path(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """Started by `with`; `environment` makes the commands of Slurm talk to it."""

    def __enter__(self):
        # A short path: sockets' names have at most 108 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.daemons = []
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        configuration = self.folder / "slurm.conf"
        configuration.write_text(CONFIGURATION.format(
            host=socket.gethostname().split(".")[0], folder=self.folder, cpus=os.cpu_count(),
            controller_port=_free_port(), daemon_port=_free_port()))
        self.environment = dict(os.environ, SLURM_CONF=str(configuration))
        self._daemon("munged", "--foreground", f"--key-file={key}",
                     *(f"--{what}={self.folder}/munge.{what.split('-')[0]}"
                       for what in ("socket", "pid-file", "log-file", "seed-file")))
        self._wait("munged", lambda: (self.folder / "munge.socket").exists())
        self._daemon("slurmctld", "-D", "-i")
        self._daemon("slurmd", "-D")
        self._wait("slurmd", lambda: "idle" in self.output("sinfo", "--noheader", "-o", "%t"))

    def _daemon(self, program, *arguments):
        with open(self.folder / f"{program}.out", "wb") as log:
            self.daemons.append(subprocess.Popen(
                [_path(program), *arguments], env=self.environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT))

    def _wait(self, what, ready, seconds=60):
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline:
                logs = "".join(f"== {path.name}\n{path.read_text(errors='replace')[-3000:]}"
                               for path in sorted(self.folder.glob("*.[lo]*")))
                raise AssertionError(f"{what} did not start\n{logs}")
            time.sleep(0.2)

    def output(self, *command):
        return subprocess.run(command, env=self.environment, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT).stdout

    def __exit__(self, *_):
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in self.daemons:
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
