#!/usr/bin/env bash
# Runs a sweep on a real Slurm of one node, started by hand: no systemd, no accounting database. Needs root on Debian or
# Ubuntu, and the book's environment (.venv). All its files lie in a temporary folder but for one link,
# /etc/slurm/slurm.conf, without which a job's own srun finds no controller; the end removes both.
#
#     bash tests/cluster/slurm.sh
#
# A grid of 2 x 2 cells of chapter 02 at smoke size runs through the profile workflow/profiles/slurm. One cell finds the
# half-written record of a killed training and refuses it; the others must finish. The folder is then deleted, as the
# message says, and the sweep runs again: only that cell may run. The last line is PASS or FAIL.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
node=$(hostname -s)
control_port=16817
node_port=16818
conf=/etc/slurm/slurm.conf
cores=$(getconf _NPROCESSORS_ONLN)
pids=()
group=

say() { printf '%s\n' "$*"; }

fail() {
  say "FAIL: $*"
  for log in "$work"/{first,second,third,slurmctld,slurmd}.log; do
    if [ -s "$log" ]; then
      say "--- last lines of $(basename "$log")"
      tail -n 12 "$log"
    fi
  done
  exit 1
}

clean_up() {
  local status=$?
  [ -z "$group" ] || kill -KILL -- "-$group" 2> /dev/null || true
  scancel --user="$(id -un)" > /dev/null 2>&1 || true
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do # only what was started here, the last one first
    kill "${pids[i]}" 2> /dev/null || true
    wait "${pids[i]}" 2> /dev/null || true
  done
  if [ "$(readlink "$conf")" = "$work/slurm.conf" ]; then rm "$conf"; fi
  if [ "${KEEP:-}" = 1 ]; then say "kept: $work"; else rm -rf "$work"; fi
  exit "$status"
}

wait_for() { # what, seconds, command...
  local what=$1 deadline=$((SECONDS + $2))
  shift 2
  until "$@" > /dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || fail "$what did not start"
    sleep 0.2
  done
}

[ "$(id -u)" = 0 ] || { say "FAIL: root is needed to start Slurm's daemons"; exit 1; }
[ -x "$python" ] || { say "FAIL: no $python: run 'make' first, or set PYTHON"; exit 1; }
[ ! -e "$conf" ] && [ ! -L "$conf" ] || { say "FAIL: there is a $conf already: this machine has a Slurm of its own"; exit 1; }
unset SLURM_CONF
work=$(mktemp -d)
trap clean_up EXIT
trap 'exit 143' INT TERM
chmod 755 "$work"

# ---------------------------------------------------------------------------------------------------------- packages
if ! command -v slurmctld slurmd munged sbatch > /dev/null; then
  say "Installing slurm-wlm and munge."
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends slurm-wlm munge > "$work/apt.log" 2>&1 || fail "$(tail -n 3 "$work/apt.log")"
fi
plugin=$(sed -n 's/^\(snakemake-executor-plugin-slurm==[^ ]*\).*/\1/p' "$root/requirements.txt")
jobstep=$(sed -n 's/^\(snakemake-executor-plugin-slurm-jobstep==[^ ]*\).*/\1/p' "$root/requirements.txt")
if ! "$python" -c 'import snakemake_executor_plugin_slurm' 2> /dev/null; then
  say "Installing $plugin beside the environment, which has been made without it."
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/plugins" "$plugin" "$jobstep"
  export PYTHONPATH="$work/plugins${PYTHONPATH:+:$PYTHONPATH}"
fi

# ------------------------------------------------------------------------------------------------------------- Slurm
mkdir "$work"/{munge,state,spool}
dd if=/dev/urandom of="$work/munge/key" bs=1024 count=1 status=none
chmod 400 "$work/munge/key"
chmod 711 "$work/munge"
munged --foreground --force --socket="$work/munge/socket" --key-file="$work/munge/key" --pid-file="$work/munge/pid" \
  --seed-file="$work/munge/seed" --log-file="$work/munge/log" > "$work/munged.log" 2>&1 &
pids+=($!)
wait_for munged 20 munge --socket="$work/munge/socket" --no-input

cat > "$work/slurm.conf" << EOF
ClusterName=one-node
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$control_port
SlurmdPort=$node_port
SlurmUser=root
AuthInfo=socket=$work/munge/socket
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
MinJobAge=86400
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$(($(awk '/MemTotal/ {print $2}' /proc/meminfo) / 1024 - 500)) State=UNKNOWN
PartitionName=all Nodes=$node Default=YES MaxTime=INFINITE State=UP
EOF
mkdir -p /etc/slurm
ln -s "$work/slurm.conf" "$conf"
slurmctld -D > "$work/slurmctld.log" 2>&1 &
pids+=($!)
slurmd -D > "$work/slurmd.log" 2>&1 &
pids+=($!)
wait_for "the node" 60 bash -c 'sinfo --noheader --format=%T | grep -q idle'
say "Slurm $(sinfo --version | cut -d' ' -f2) on one node with $cores cores; $plugin"

# ------------------------------------------------------------------------------------------------------------- sweep
export ADDLIB_RESULTS=$work/results ADDLIB_CACHE=$work/weights OMP_NUM_THREADS=1
cd "$root"
cat > "$work/grid.yml" << EOF
cells:
  - chapter: 02_training
    parameters: {seed: [1, 2], steps: [200, 240], width: 48, test_questions: 1000}
EOF
cells=$work/results/sweeps/grid
broken=02_training_seed-2_steps-240
folder=$("$python" -c '
from addlib.models.addition import ModelConfig
from addlib.training.addition import TrainConfig
print(TrainConfig(model=ModelConfig(width=48), steps=240, seed=2).folder.path)')
mkdir -p "$folder"
printf '{"key": ' > "$folder/run.json" # what a disk that lost power may leave

sweep() { # in a process group of its own, so that an interrupted test leaves no part of it behind
  local status=0
  setsid "$python" -m workflow.sweep.grid "$work/grid.yml" --profile slurm > "$work/$1.log" 2>&1 &
  group=$!
  wait $group || status=$?
  group=
  return $status
}

ended() { # cells that are done, in one line
  find "$cells" -mindepth 2 -maxdepth 2 -name .done -printf '%h\n' | xargs -r -n 1 basename | sort | tr '\n' ' '
}

begun=$SECONDS
if sweep first; then fail "the sweep must not pass with a damaged checkpoint"; fi
first=$((SECONDS - begun))
say "first run: $first s; done: $(ended)"
[ "$(ended | wc -w)" = 3 ] || fail "three cells had to finish"
[ ! -e "$cells/$broken/.done" ] || fail "the broken cell counts as done"
grep -q "$broken.*CheckpointError.*is damaged" "$work/first.log" || fail "the sweep must name the cell and its error"
grep -q "^$broken,.*,failed," "$cells/cells.csv" || fail "cells.csv must say which cell failed"
[ -s "$cells/claims.html" ] || fail "the figure of the three cells is missing"
jobs=$(scontrol --oneliner show jobs | grep -c JobState=)
[ "$jobs" = 4 ] || fail "four Slurm jobs had to run, not $jobs"
declare -A before
for record in "$cells"/*/runs/02_training.json; do before[$record]=$(stat -c %Y.%s "$record")$(sha256sum < "$record"); done

rm -r "$folder"
begun=$SECONDS
sweep second || fail "the mended sweep must pass"
second=$((SECONDS - begun))
say "second run: $second s; done: $(ended)"
[ "$(ended | wc -w)" = 4 ] || fail "all four cells had to finish"
for record in "${!before[@]}"; do
  now=$(stat -c %Y.%s "$record")$(sha256sum < "$record")
  case $record in
    */"$broken"/*) [ "$now" != "${before[$record]}" ] || fail "the mended cell did not run" ;;
    *) [ "$now" = "${before[$record]}" ] || fail "$record: a finished cell ran again" ;;
  esac
done
jobs=$(scontrol --oneliner show jobs | grep -c JobState=)
[ "$jobs" = 5 ] || fail "one more Slurm job had to run, not $((jobs - 4))"

begun=$SECONDS
sweep third || fail "a sweep with nothing to do must pass"
third=$((SECONDS - begun))
jobs=$(scontrol --oneliner show jobs | grep -c JobState=)
[ "$jobs" = 5 ] || fail "a sweep with nothing to do submitted a job"
say "nothing to do: $third s"
cat "$cells/cells.csv"
say "PASS: three cells finished beside the broken one; mended, it alone ran again"
