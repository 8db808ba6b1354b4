"""The docs on several processes: programs and commands run, clusters' files are whole."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest
from test_docs import PAGES, ROOT
from test_parallel import mpiexec, started

import bpx
from bpx.backends import _threads

CLUSTERS = ROOT / "docs" / "clusters.md"


def blocks(page, kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def programs():
    for page in PAGES:
        for program in blocks(page, "python"):
            if "parallel=" in program:
                yield pytest.param(program, id=page.name)


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("program", list(programs()))
def test_programs_run_in_several_processes(program, ranks, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(f"import os\nos.chdir({str(tmp_path)!r})\n{program}", encoding="utf-8")
    ended = started(ranks, "-W", "error", "-m", "mpi4py", str(path))
    assert ended.returncode == 0, ended.stdout + ended.stderr


def commands():
    for block in blocks(CLUSTERS, "sh"):
        yield from block.strip().splitlines()


def test_commands_run_on_one_host(tmp_path):
    program = mpiexec()
    assert len(list(commands())) >= 4
    (tmp_path / "script.py").write_text(blocks(CLUSTERS, "python")[0], encoding="utf-8")
    python = shlex.quote(sys.executable)
    names = {"mpiexec": shlex.quote(program), "bpx": f"{python} -m bpx", "python": python}
    environment = os.environ | {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "MPLBACKEND": "Agg",
    }
    for command in commands():
        line = " ".join(names.get(word, word) for word in command.split())
        ended = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, command + ended.stdout + ended.stderr
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert (tmp_path / "net.safetensors").exists()


def test_ranks_take_no_more_threads_than_the_user_has_set(monkeypatch):
    pytest.importorskip("threadpoolctl")
    monkeypatch.setattr(_threads, "for_each_of", lambda processes: 64)
    backend = bpx.backends.get("numpy")
    assert backend.cores
    with _threads.limited(1), backend.surround(None, processes=2):
        assert backend.cores == 1


def test_the_batch_script_is_one():
    (script,) = blocks(CLUSTERS, "bash")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    options = re.findall(r"^#SBATCH --([a-z-]+)", script, re.M)
    assert len(set(options)) == len(options) > 5
    assert script.index("#SBATCH --open-mode") < script.index("module load")


# The fields of MPIJob v2beta1 that the page uses, in kubeflow/mpi-operator's types.go.
SPEC = {
    "slotsPerWorker", "runPolicy", "mpiReplicaSpecs", "sshAuthMountPath", "launcherCreationPolicy",
    "mpiImplementation", "runLauncherAsWorker",
}  # fmt: skip
POLICY = {
    "cleanPodPolicy", "ttlSecondsAfterFinished", "activeDeadlineSeconds", "backoffLimit",
    "schedulingPolicy", "suspend", "managedBy",
}  # fmt: skip


def test_the_job_for_kubernetes_has_the_operators_fields():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: it reads the job")
    (text,) = blocks(CLUSTERS, "yaml")
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v2beta1", "MPIJob")
    spec = job["spec"]
    assert set(spec) <= SPEC
    assert set(spec["runPolicy"]) <= POLICY
    assert spec["mpiImplementation"] in ("OpenMPI", "Intel", "MPICH")
    assert set(spec["mpiReplicaSpecs"]) == {"Launcher", "Worker"}
    for replica in spec["mpiReplicaSpecs"].values():
        assert set(replica) <= {"replicas", "restartPolicy", "template"}
        pod = replica["template"]["spec"]
        mounted = {m["name"] for c in pod["containers"] for m in c["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    (launcher,) = spec["mpiReplicaSpecs"]["Launcher"]["template"]["spec"]["containers"]
    slots = spec["slotsPerWorker"] * spec["mpiReplicaSpecs"]["Worker"]["replicas"]
    assert f"-n {slots} " in launcher["args"][0]
    subprocess.run(["bash", "-n"], input=launcher["args"][0], text=True, check=True)
