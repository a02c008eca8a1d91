"""The configuration files of a private Slurm: text from values, nothing else.

What each unusual line is for was found by trial on Debian's Slurm:

- Debian builds slurmd without --enable-multiple-slurmd. Several still run on one
  machine when each has its own host name, port and munged: with one munged, the
  second slurmd that sees a credential takes it for a replay.
- Clients reach slurmdbd through AccountingStoragePass, not AuthInfo.
- No*InAddrAny binds to what the host's name resolves to, which must be loopback.
- The nodes' files differ from the controller's in their socket: NO_CONF_HASH.
"""

from pathlib import Path
from typing import NamedTuple

CLUSTER = "lab"
CPUS_PER_NODE = 8
MEM_MIB_PER_NODE = 16_000
GPUS_PER_NODE = 2
FIRST_CGROUP_FREE_MAJOR = 24
"""From Slurm 24 on the cgroup plugin can be turned off instead of left unused."""


class Node(NamedTuple):
    """One virtual node: its name and the port of its slurmd."""

    name: str
    port: int


class Layout(NamedTuple):
    """Where everything is: a directory, an address and ports on it."""

    home: Path
    host: str
    address: str
    daemon_user: str
    database_port: int
    slurmdbd_port: int
    slurmctld_port: int
    nodes: tuple[Node, ...]
    slurm_major: int
    jwt_key: Path | None = None

    def socket(self, tag: str) -> Path:
        """The munge socket of one munged."""
        return self.home / "munge" / f"{tag}.sock"

    @property
    def database_socket(self) -> Path:
        """Where MariaDB listens for its own administrator."""
        return self.home / "mysql.sock"


def my_cnf(layout: Layout, *, as_user: str | None) -> str:
    """MariaDB's options: small, loopback only."""
    home = layout.home
    lines = [
        "[mysqld]",
        f"datadir={home}/mysql",
        f"socket={layout.database_socket}",
        f"pid-file={home}/pids/mariadbd.self",
        f"log-error={home}/log/mariadb.err",
        "bind-address=127.0.0.1",
        f"port={layout.database_port}",
        "innodb_buffer_pool_size=64M",
        "innodb_log_file_size=64M",
        "innodb_lock_wait_timeout=900",
        "innodb_flush_log_at_trx_commit=2",
        "skip-name-resolve",
        "character-set-server=utf8mb4",
    ]
    if as_user is not None:
        lines.append(f"user={as_user}")
    return "\n".join(lines) + "\n"


def _tokens(layout: Layout) -> str:
    """Lines by which daemons take JSON Web Tokens, too; none without a key."""
    if layout.jwt_key is None:
        return ""
    return f"\nAuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key={layout.jwt_key}"


def slurmdbd_conf(layout: Layout, password: str) -> str:
    """The file of slurmdbd, which also holds its database password."""
    home = layout.home
    return f"""\
AuthType=auth/munge
AuthInfo=socket={layout.socket("main")}
DbdHost={layout.host}
DbdAddr={layout.address}
DbdPort={layout.slurmdbd_port}
SlurmUser={layout.daemon_user}
LogFile={home}/log/slurmdbd.log
PidFile={home}/pids/slurmdbd.self
DebugLevel=info
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={layout.database_port}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
CommunicationParameters=NoInAddrAny
TrackWCKey=yes{_tokens(layout)}
"""


def slurm_conf(layout: Layout, munge_tag: str) -> str:
    """slurm.conf for the controller ("main") or for one node (its name)."""
    home = layout.home
    socket = layout.socket(munge_tag)
    names = ",".join(node.name for node in layout.nodes)
    nodes = "\n".join(
        f"NodeName={node.name} NodeHostname={node.name} NodeAddr={layout.address} Port={node.port}"
        f" Sockets=1 CoresPerSocket={CPUS_PER_NODE} ThreadsPerCore=1"
        f" RealMemory={MEM_MIB_PER_NODE} Gres=gpu:a100:{GPUS_PER_NODE} State=UNKNOWN"
        for node in layout.nodes
    )
    return f"""\
ClusterName={CLUSTER}
SlurmctldHost={layout.host}({layout.address})
SlurmctldPort={layout.slurmctld_port}
SlurmUser={layout.daemon_user}
{"" if layout.daemon_user == "slurm" else f"SlurmdUser={layout.daemon_user}"}
AuthType=auth/munge
AuthInfo=socket={socket}
CredType=cred/munge{_tokens(layout)}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool/%n
SlurmctldPidFile={home}/pids/slurmctld.self
SlurmdPidFile={home}/pids/slurmd-%n.self
SlurmctldLogFile={home}/log/slurmctld.log
SlurmdLogFile={home}/log/slurmd-%n.log
DebugFlags=NO_CONF_HASH
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_interval=2,batch_sched_delay=0
PriorityType=priority/basic
GresTypes=gpu
JobRequeue=1
ReturnToService=2
KillWait=3
MinJobAge=300
InactiveLimit=0
Waittime=0
PropagateResourceLimits=NONE
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={layout.address}
AccountingStoragePort={layout.slurmdbd_port}
AccountingStoragePass=socket={socket}
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu,gres/gpu:a100
TrackWCKey=yes
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
PrologFlags=Alloc,Contain
{nodes}
PartitionName=cpu Nodes={names} Default=YES MaxTime=1-00:00:00 DefaultTime=00:10:00\
 DefMemPerCPU=500 State=UP TRESBillingWeights="CPU=1.0,Mem=0.25G,GRES/gpu=8.0"
"""


def gres_conf(layout: Layout) -> str:
    """The GPUs that every node pretends to have."""
    return f"Name=gpu Type=a100 File={layout.home}/dev/gpu[0-{GPUS_PER_NODE - 1}]\n"


def controller_gres_conf(layout: Layout) -> str:
    """The same, named by node, as the controller wants it."""
    line = gres_conf(layout)
    return "".join(f"NodeName={node.name} {line}" for node in layout.nodes)


def cgroup_conf(layout: Layout) -> str:
    """Control groups stay out of it: a container has none to give."""
    if layout.slurm_major >= FIRST_CGROUP_FREE_MAJOR:
        return "CgroupPlugin=disabled\n"
    return "CgroupPlugin=cgroup/v1\n"
