"""A SLURM of one node on this machine, with munge, in a folder and on ports of its own.

Beside the machine itself, in partition `cpu`, it has 32 nodes in partition `a100` that are never there: `sbatch
--test-only` says when and where a job would start. Needs root, and `slurmctld`, `slurmd` and `munged`.
"""

import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

__all__ = ["Cluster", "why_not"]

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel", "sinfo")
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# What is requeued starts again only when credentials of before are no longer good.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
ReturnToService=2
KillWait=30
MailProg=/bin/true
GresTypes=gpu
# Nodes that would be switched on for a job.
ResumeProgram=/bin/true
SuspendProgram=/bin/true
SuspendTime=60
SuspendExcNodes={host}
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
NodeName=a100-[01-32] CPUs=64 RealMemory=1000000 Gres=gpu:a100:4 State=CLOUD
PartitionName=cpu Nodes={host} Default=YES State=UP
PartitionName=a100 Nodes=a100-[01-32] State=UP
"""


def why_not() -> str:
    """Why there can be no such cluster here; empty: there can."""
    missing = [program for program in PROGRAMS if not _find(program)]
    if missing:
        return f"SLURM is not installed (no {', '.join(missing)}): apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "a SLURM of one's own needs root"
    return ""


def _find(program):
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


class Cluster:
    """Runs from entering to leaving; ends what it has started, by process, and nothing else."""

    def __init__(self):
        self.host = socket.gethostname().partition(".")[0]
        # pytest's own temporary folders are closed to others, which munge does not like.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.folder.chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))},
            "SLURM_CONF": str(self.folder / "slurm.conf"),
        }
        self._daemons = []

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            if len(self._daemons) == 3:
                self._end_jobs()
        finally:
            for daemon in reversed(self._daemons):
                daemon.terminate()
                try:
                    daemon.wait(20)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end_jobs(self):
        with contextlib.suppress(subprocess.CalledProcessError):
            numbers = self.call("squeue", "--noheader", "--format=%A").split()
            if numbers:
                self.call("scancel", *numbers)
                self.wait_until(lambda: not self.call("squeue", "--noheader").strip(), 60)

    def _start(self):
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        controller_port, node_port = _free_ports(2)
        text = CONFIGURATION.format(
            host=self.host, folder=self.folder, controller_port=controller_port, node_port=node_port
        )
        (self.folder / "slurm.conf").write_text(text)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        places = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        options = [f"--{name}={self.folder / place}" for name, place in places.items()]
        self._run("munged", "--foreground", "--force", f"--log-file={self.folder / 'munge.log'}", *options)
        self.wait_until((self.folder / "munge.socket").exists, 30)
        self._run("slurmctld", "-D")
        self._run("slurmd", "-D", "-N", self.host)
        self.wait_until(lambda: self._state() == "idle", 60)

    def _run(self, program, *options):
        with open(self.folder / f"{program}.out", "wb") as out:
            self._daemons.append(
                subprocess.Popen([_find(program), *options], env=self.environment, stdout=out, stderr=out)
            )

    def _state(self):
        asked = [_find("sinfo"), "--noheader", "--partition=cpu", "--format=%T"]
        return subprocess.run(asked, env=self.environment, capture_output=True, text=True).stdout.strip()

    def wait_until(self, happened, seconds):
        """Wait for something; what the daemons said is in the error where it does not come."""
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in self._daemons):
                logs = "\n".join(
                    f"{path.name}:\n{path.read_text(errors='replace')[-3000:]}"
                    for path in sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
                )
                raise AssertionError(f"SLURM did not get there within {seconds} s, or a daemon ended\n{logs}")
            time.sleep(0.1)

    def call(self, program, *arguments, **options):
        """A command's output."""
        done = subprocess.run(
            [_find(program), *map(str, arguments)], env=self.environment, capture_output=True, text=True, **options
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, program, done.stdout, done.stderr)
        # `sbatch --test-only` speaks on its standard error.
        return done.stdout + done.stderr

    def submit(self, *arguments, **options):
        """`sbatch`; returns the job's number."""
        return int(re.search(r"Submitted batch job (\d+)", self.call("sbatch", *arguments, **options))[1])

    def job(self, number):
        """A job's fields, as `scontrol show job` has them."""
        return dict(re.findall(r"(\w+)=(\S*)", self.call("scontrol", "show", "job", number)))

    def wait_for_end(self, number, seconds):
        """Wait until a job has ended; returns its state, such as COMPLETED."""
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "DEADLINE")
        self.wait_until(lambda: self.job(number)["JobState"] in ended, seconds)
        return self.job(number)["JobState"]
