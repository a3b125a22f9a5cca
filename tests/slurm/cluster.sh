#!/usr/bin/env bash
# Which Slurm do the tests run on? A small one of their own, on this machine: two nodes that claim 8 CPUs and 4 GPUs
# each, and the partitions main, low (preempted and requeued by high) and high. No systemd, cgroups or GPUs needed.
#
#   cluster.sh start          install Slurm if need be (root and apt), start what is down, wait until the nodes are up
#   cluster.sh stop           end its jobs and the daemons that it started, by their process ids
#   cluster.sh clean          stop, then delete its folder
#   cluster.sh status         which daemons live, its nodes, its queue
#   cluster.sh with COMMAND…  run a command beside a cluster that lives as long; without one where none can be had
#   eval "$(cluster.sh env)"  let the Slurm commands of this shell talk to it
#
#   SLURM_TEST_DIR   configuration, state and logs                           (default /tmp/flanscale-slurm-USER)
#   SLURM_TEST_PORT  the first of seven ports                                (default 26817)
#   SLURM_TEST_ACCT  1: accounting (slurmdbd and MariaDB), so that sacct works   (default 0)
set -euo pipefail

DIR=${SLURM_TEST_DIR:-/tmp/flanscale-slurm-$(id -un)}
PORT=${SLURM_TEST_PORT:-26817}  # slurmctld, slurmdbd, MariaDB, and one for each node
ACCT=${SLURM_TEST_ACCT:-0}
NODES=(n1 n2) CPUS=8 MEMORY_MB=16000 GPUS=4
HOST=$(uname -n) HOST=${HOST%%.*}
HOSTS_MARK="# nodes of $DIR"
export SLURM_CONF=$DIR/slurm.conf
export PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C

say() { printf 'slurm: %s\n' "$*" >&2; }
die() { say "$*${CONSEQUENCE:+; $CONSEQUENCE}"; exit 1; }
have() { command -v "$1" >/dev/null; }

# alive PIDFILE PROGRAM: does that very program still run under that pid? A zombie, as containers keep them, does not.
alive() {
  local pid
  pid=$(cat "$1" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] && running "$pid"
}
running() { grep -q '^State:[[:space:]]*[^ZX]' "/proc/$1/status" 2>/dev/null; }

end() {
  alive "$1" "$2" || return 0
  local pid
  pid=$(cat "$1")
  kill "$pid"
  for _ in {1..100}; do running "$pid" || return 0; sleep 0.1; done
  kill -9 "$pid"
}

# until_true SECONDS COMMAND…
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $deadline ] || return 1; sleep 0.2; done
}

install() {
  local packages=()
  have slurmctld && have slurmd && have munged || packages+=(slurm-wlm munge)
  [ "$ACCT" = 0 ] || { have slurmdbd && have mariadbd; } || packages+=(slurmdbd mariadb-server)
  [ ${#packages[@]} -gt 0 ] || return 0
  have apt-get || die "no Slurm here, and no apt-get to install ${packages[*]} with"
  [ "$(id -u)" = 0 ] || die "no Slurm here; as root: apt-get install ${packages[*]}"
  say "installing ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  local apt=(timeout 600 apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=2)
  { "${apt[@]}" update; "${apt[@]}" install -y --no-install-recommends "${packages[@]}"; } \
    >"$DIR/apt.log" 2>&1 </dev/null || die "apt-get cannot install ${packages[*]}: $(tail -n 1 "$DIR/apt.log")"
}

write_configuration() {
  local i node version
  cat <<CONF >"$SLURM_CONF"
ClusterName=flanscale
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it may start again; 120 s by default
AuthInfo=socket=$DIR/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$DIR/state
SlurmdSpoolDir=$DIR/spool-%n
SlurmctldPidFile=$DIR/slurmctld.pid
SlurmdPidFile=$DIR/slurmd-%n.pid
SlurmctldLogFile=$DIR/slurmctld.log
SlurmdLogFile=$DIR/slurmd-%n.log
MailProg=/bin/true
ReturnToService=2

# plain processes on one host, on more CPUs than it has
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu

PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1

# short delays
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
KillWait=5
MinJobAge=600
InactiveLimit=0
SlurmctldTimeout=30
SlurmdTimeout=60

PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=5
PartitionName=low  Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
CONF
  echo "AutoDetect=off" >"$DIR/gres.conf"
  for i in "${!NODES[@]}"; do
    node=${NODES[i]}
    echo "NodeName=$node NodeHostname=$HOST NodeAddr=127.0.0.1 Port=$((PORT + 3 + i)) CPUs=$CPUS" \
      "RealMemory=$MEMORY_MB Gres=gpu:$GPUS State=UNKNOWN" >>"$SLURM_CONF"
    echo "NodeName=$node Name=gpu File=$DIR/gpu[0-$((GPUS - 1))]" >>"$DIR/gres.conf"
  done
  version=$(slurmd -V | grep -oE '[0-9]+' | head -n 1)
  [ "$version" -lt 23 ] || echo "CgroupPlugin=disabled" >"$DIR/cgroup.conf"  # a word that 22.05 does not know nor need
  for ((i = 0; i < GPUS; i++)); do ln -sf /dev/null "$DIR/gpu$i"; done  # a GPU counts only with its device file
  [ "$ACCT" = 1 ] || { echo "AccountingStorageType=accounting_storage/none" >>"$SLURM_CONF"; return 0; }
  cat <<CONF >>"$SLURM_CONF"
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((PORT + 1))
# with munge this "password" is the socket that slurmdbd's clients use
AccountingStoragePass=$DIR/munge.socket
AccountingStorageTRES=gres/gpu
CONF
  (umask 077; cat <<CONF >"$DIR/slurmdbd.conf")
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=$((PORT + 1))
SlurmUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$DIR/munge.socket
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$((PORT + 2))
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
PidFile=$DIR/slurmdbd.pid
LogFile=$DIR/slurmdbd.log
CONF
}

# JAX finds the other processes of a cell by the names of their nodes.
drop_names() {
  grep -qsF "$HOSTS_MARK" /etc/hosts && [ -w /etc/hosts ] || return 0
  local kept
  kept=$(grep -vF "$HOSTS_MARK" /etc/hosts || true)
  printf '%s\n' "$kept" >/etc/hosts  # not by rename: in a container it is a mount
}
write_names() {
  drop_names
  if [ -w /etc/hosts ]; then echo "127.0.0.1 ${NODES[*]} $HOSTS_MARK" >>/etc/hosts; fi
}

start_munge() {
  alive "$DIR/munged.pid" munged && return
  [ -s "$DIR/munge.key" ] || (umask 077; head -c 1024 /dev/urandom >"$DIR/munge.key")
  munged --force --key-file "$DIR/munge.key" --socket "$DIR/munge.socket" --pid-file "$DIR/munged.pid" \
    --log-file "$DIR/munged.log" --seed-file "$DIR/munge.seed" --num-threads 2 2>>"$DIR/munge.start.log" \
    || die "munged does not start: $(tail -n 1 "$DIR/munge.start.log")"
}

sql() { mariadb --no-defaults --socket="$DIR/mysql.sock" --user="$(id -un)" "$@"; }

start_accounting() {
  if ! alive "$DIR/mariadbd.pid" mariadbd; then
    local me
    me=$(id -un)
    [ -d "$DIR/mysql/mysql" ] || mariadb-install-db --no-defaults --force --user="$me" --datadir="$DIR/mysql" \
      --skip-test-db --auth-root-authentication-method=socket --auth-root-socket-user="$me" >"$DIR/mysql.log" 2>&1 \
      || die "no database: see $DIR/mysql.log"
    setsid mariadbd --no-defaults --user="$me" --datadir="$DIR/mysql" --socket="$DIR/mysql.sock" \
      --pid-file="$DIR/mariadbd.pid" --bind-address=127.0.0.1 --port=$((PORT + 2)) --innodb-buffer-pool-size=64M \
      --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 >>"$DIR/mysql.log" 2>&1 </dev/null &
    until_true 60 sql -e 'select 1' || die "mariadbd does not answer: see $DIR/mysql.log"
    for host in localhost 127.0.0.1; do
      sql -e "create database if not exists slurm_acct; create user if not exists slurm@'$host' identified by 'slurm';
              grant all on slurm_acct.* to slurm@'$host'"
    done
  fi
  alive "$DIR/slurmdbd.pid" slurmdbd || slurmdbd
  until_true 60 sacctmgr -n list cluster || die "slurmdbd does not answer: see $DIR/slurmdbd.log"
  sacctmgr -n list cluster format=cluster | grep -qw flanscale || sacctmgr -i add cluster flanscale >/dev/null
}

nodes_up() {
  local node
  for node in "${NODES[@]}"; do scontrol update NodeName="$node" State=RESUME || true; done
  [ "$(sinfo -h -N -p main -o %t | grep -cE '^(idle|mix|alloc)$')" = ${#NODES[@]} ]
}

own_folder() {
  mkdir -p "$DIR"
  [ -e "$DIR/.cluster.sh" ] || [ -z "$(ls -A "$DIR")" ] || die "$DIR holds something else; set SLURM_TEST_DIR"
  touch "$DIR/.cluster.sh"
}

start() {
  own_folder
  mkdir -p "$DIR/state" "${NODES[@]/#/$DIR/spool-}"
  install
  [ -f "$SLURM_CONF" ] || write_configuration
  write_names
  start_munge
  [ ! -f "$DIR/slurmdbd.conf" ] || start_accounting
  alive "$DIR/slurmctld.pid" slurmctld || slurmctld >>"$DIR/slurmctld.log" 2>&1 || die "see $DIR/slurmctld.log"
  for node in "${NODES[@]}"; do
    alive "$DIR/slurmd-$node.pid" slurmd || slurmd -N "$node" >>"$DIR/slurmd-$node.log" 2>&1 \
      || die "see $DIR/slurmd-$node.log"
  done
  until_true 60 nodes_up || die "the nodes did not come up: see $DIR/slurmctld.log and $DIR/slurmd-n1.log"
}

no_jobs() { [ -z "$(squeue -h)" ]; }

stop() {
  if alive "$DIR/slurmctld.pid" slurmctld; then
    squeue -h -o %A 2>/dev/null | sort -u | xargs -r scancel 2>/dev/null || true
    until_true 15 no_jobs || true
  fi
  for node in "${NODES[@]}"; do end "$DIR/slurmd-$node.pid" slurmd; done
  end "$DIR/slurmctld.pid" slurmctld
  end "$DIR/slurmdbd.pid" slurmdbd
  end "$DIR/mariadbd.pid" mariadbd
  end "$DIR/munged.pid" munged
  drop_names
}

clean() {
  [ -e "$DIR/.cluster.sh" ] || return 0
  stop
  rm -rf "$DIR"
}

status() {
  local file program
  for file in "$DIR"/*.pid; do
    program=$(basename "$file" .pid) program=${program%-n?}
    echo "$(basename "$file" .pid): $(alive "$file" "$program" && echo up || echo down)"
  done
  sinfo
  squeue
}

# Several at once share a cluster; the last to end stops it, unless it had been started without `with`.
with_cluster() {
  local code=0
  [ -d /proc/self ] && have flock || { say "not Linux; the tests on Slurm are skipped"; exec "$@"; }
  exec 9>>"$DIR.users"
  flock -s 9
  trap : INT TERM  # the command gets them too, and the cluster must not outlive it
  CONSEQUENCE="the tests on Slurm are skipped" flock -o "$DIR.starting" "$0" borrow 9>&- || "$0" stop 9>&-
  SLURM_TEST_DIR=$DIR "$@" 9>&- || code=$?
  if [ -e "$DIR/borrowed" ] && flock -n -x 9; then "$0" "$([ $code = 0 ] && echo clean || echo stop)" 9>&- || true; fi
  exit $code
}

borrow() {
  if ! alive "$DIR/slurmctld.pid" slurmctld; then
    clean
    own_folder
    touch "$DIR/borrowed"
  fi
  start
}

case "${1:-}" in
  start) start; say "up; other shells need: export SLURM_CONF=$SLURM_CONF" ;;
  stop) stop ;;
  clean) clean ;;
  status) status ;;
  env) echo "export SLURM_CONF=$SLURM_CONF" ;;
  with) shift; with_cluster "$@" ;;
  borrow) borrow ;;  # the first half of `with`, under its lock
  *) die "usage: $0 start|stop|clean|status|env|with COMMAND…" ;;
esac
