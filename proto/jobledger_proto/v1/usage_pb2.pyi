from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TreeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TREE_KIND_UNSPECIFIED: _ClassVar[TreeKind]
    TREE_KIND_ACCOUNT: _ClassVar[TreeKind]
    TREE_KIND_USER: _ClassVar[TreeKind]
    TREE_KIND_ASSOCIATION: _ClassVar[TreeKind]
    TREE_KIND_QOS: _ClassVar[TreeKind]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_NEW: _ClassVar[Verdict]
    VERDICT_KNOWN: _ClassVar[Verdict]
    VERDICT_REVISED: _ClassVar[Verdict]
    VERDICT_QUARANTINED: _ClassVar[Verdict]
TREE_KIND_UNSPECIFIED: TreeKind
TREE_KIND_ACCOUNT: TreeKind
TREE_KIND_USER: TreeKind
TREE_KIND_ASSOCIATION: TreeKind
TREE_KIND_QOS: TreeKind
VERDICT_UNSPECIFIED: Verdict
VERDICT_NEW: Verdict
VERDICT_KNOWN: Verdict
VERDICT_REVISED: Verdict
VERDICT_QUARANTINED: Verdict

class ReportRequest(_message.Message):
    __slots__ = ("hello", "batch", "status")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    batch: Batch
    status: Status
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., status: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("welcome", "ack")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    ack: Ack
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("agent", "version", "clusters", "clock_ms")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTERS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    agent: str
    version: str
    clusters: _containers.RepeatedScalarFieldContainer[str]
    clock_ms: int
    def __init__(self, agent: _Optional[str] = ..., version: _Optional[str] = ..., clusters: _Optional[_Iterable[str]] = ..., clock_ms: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("version", "window_batches", "max_batch_records", "max_batch_bytes", "clock_ms")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WINDOW_BATCHES_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_RECORDS_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_BYTES_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    version: str
    window_batches: int
    max_batch_records: int
    max_batch_bytes: int
    clock_ms: int
    def __init__(self, version: _Optional[str] = ..., window_batches: _Optional[int] = ..., max_batch_records: _Optional[int] = ..., max_batch_bytes: _Optional[int] = ..., clock_ms: _Optional[int] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("spool_records", "complete_through", "clock_ms", "source_error", "held_records", "dbd_queue_plus_one")
    SPOOL_RECORDS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_THROUGH_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ERROR_FIELD_NUMBER: _ClassVar[int]
    HELD_RECORDS_FIELD_NUMBER: _ClassVar[int]
    DBD_QUEUE_PLUS_ONE_FIELD_NUMBER: _ClassVar[int]
    spool_records: int
    complete_through: int
    clock_ms: int
    source_error: str
    held_records: int
    dbd_queue_plus_one: int
    def __init__(self, spool_records: _Optional[int] = ..., complete_through: _Optional[int] = ..., clock_ms: _Optional[int] = ..., source_error: _Optional[str] = ..., held_records: _Optional[int] = ..., dbd_queue_plus_one: _Optional[int] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("number", "jobs", "unreadable", "tree")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    TREE_FIELD_NUMBER: _ClassVar[int]
    number: int
    jobs: JobColumns
    unreadable: _containers.RepeatedCompositeFieldContainer[Unreadable]
    tree: _containers.RepeatedCompositeFieldContainer[TreeEntry]
    def __init__(self, number: _Optional[int] = ..., jobs: _Optional[_Union[JobColumns, _Mapping]] = ..., unreadable: _Optional[_Iterable[_Union[Unreadable, _Mapping]]] = ..., tree: _Optional[_Iterable[_Union[TreeEntry, _Mapping]]] = ...) -> None: ...

class TreeEntry(_message.Message):
    __slots__ = ("cluster", "kind", "name", "attributes", "gone", "observed")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    kind: TreeKind
    name: str
    attributes: _containers.ScalarMap[str, str]
    gone: bool
    observed: int
    def __init__(self, cluster: _Optional[str] = ..., kind: _Optional[_Union[TreeKind, str]] = ..., name: _Optional[str] = ..., attributes: _Optional[_Mapping[str, str]] = ..., gone: _Optional[bool] = ..., observed: _Optional[int] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("span", "jobs", "span_end")
    SPAN_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    SPAN_END_FIELD_NUMBER: _ClassVar[int]
    span: Span
    jobs: JobColumns
    span_end: SpanEnd
    def __init__(self, span: _Optional[_Union[Span, _Mapping]] = ..., jobs: _Optional[_Union[JobColumns, _Mapping]] = ..., span_end: _Optional[_Union[SpanEnd, _Mapping]] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("checked", "compared")
    CHECKED_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    checked: Checked
    compared: Compared
    def __init__(self, checked: _Optional[_Union[Checked, _Mapping]] = ..., compared: _Optional[_Union[Compared, _Mapping]] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("agent", "cluster", "begin", "end")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    agent: str
    cluster: str
    begin: int
    end: int
    def __init__(self, agent: _Optional[str] = ..., cluster: _Optional[str] = ..., begin: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class SpanEnd(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Checked(_message.Message):
    __slots__ = ("verdicts",)
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedScalarFieldContainer[Verdict]
    def __init__(self, verdicts: _Optional[_Iterable[_Union[Verdict, str]]] = ...) -> None: ...

class RunKey(_message.Message):
    __slots__ = ("job_id", "submit")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    submit: int
    def __init__(self, job_id: _Optional[int] = ..., submit: _Optional[int] = ...) -> None: ...

class UsageSum(_message.Message):
    __slots__ = ("runs", "elapsed_s", "cpu_s", "gpu_s", "mem_mib_s", "node_s")
    RUNS_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_S_FIELD_NUMBER: _ClassVar[int]
    CPU_S_FIELD_NUMBER: _ClassVar[int]
    GPU_S_FIELD_NUMBER: _ClassVar[int]
    MEM_MIB_S_FIELD_NUMBER: _ClassVar[int]
    NODE_S_FIELD_NUMBER: _ClassVar[int]
    runs: int
    elapsed_s: int
    cpu_s: int
    gpu_s: int
    mem_mib_s: int
    node_s: int
    def __init__(self, runs: _Optional[int] = ..., elapsed_s: _Optional[int] = ..., cpu_s: _Optional[int] = ..., gpu_s: _Optional[int] = ..., mem_mib_s: _Optional[int] = ..., node_s: _Optional[int] = ...) -> None: ...

class Compared(_message.Message):
    __slots__ = ("told", "stored", "missing", "known", "differing", "refused", "extra", "extra_runs")
    TOLD_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    DIFFERING_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    EXTRA_RUNS_FIELD_NUMBER: _ClassVar[int]
    told: UsageSum
    stored: UsageSum
    missing: int
    known: int
    differing: int
    refused: int
    extra: _containers.RepeatedCompositeFieldContainer[RunKey]
    extra_runs: int
    def __init__(self, told: _Optional[_Union[UsageSum, _Mapping]] = ..., stored: _Optional[_Union[UsageSum, _Mapping]] = ..., missing: _Optional[int] = ..., known: _Optional[int] = ..., differing: _Optional[int] = ..., refused: _Optional[int] = ..., extra: _Optional[_Iterable[_Union[RunKey, _Mapping]]] = ..., extra_runs: _Optional[int] = ...) -> None: ...

class Unreadable(_message.Message):
    __slots__ = ("cluster", "origin", "reason", "raw", "raw_size")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    RAW_SIZE_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    origin: str
    reason: str
    raw: bytes
    raw_size: int
    def __init__(self, cluster: _Optional[str] = ..., origin: _Optional[str] = ..., reason: _Optional[str] = ..., raw: _Optional[bytes] = ..., raw_size: _Optional[int] = ...) -> None: ...

class TresSet(_message.Message):
    __slots__ = ("name", "count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    name: _containers.RepeatedScalarFieldContainer[int]
    count: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[_Iterable[int]] = ..., count: _Optional[_Iterable[int]] = ...) -> None: ...

class JobColumns(_message.Message):
    __slots__ = ("rows", "texts", "tres_sets", "cluster", "job_id", "submit", "eligible", "start", "end", "suspended_s", "slurm_elapsed_s", "state", "cancelled_by_uid", "exit_code", "exit_signal", "alloc_tres", "req_tres", "alloc_cpus", "nodes", "node_list", "user", "uid", "account", "assoc_id", "partition", "qos", "wckey", "reservation", "reservation_id", "array_job_id", "array_task", "het_job_id", "het_offset", "restarts", "sluid", "timelimit_s", "energy_j", "total_cpu_ms", "max_rss_bytes", "steps", "observed")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    TRES_SETS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    ELIGIBLE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    SUSPENDED_S_FIELD_NUMBER: _ClassVar[int]
    SLURM_ELAPSED_S_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_BY_UID_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    EXIT_SIGNAL_FIELD_NUMBER: _ClassVar[int]
    ALLOC_TRES_FIELD_NUMBER: _ClassVar[int]
    REQ_TRES_FIELD_NUMBER: _ClassVar[int]
    ALLOC_CPUS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    NODE_LIST_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ASSOC_ID_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    QOS_FIELD_NUMBER: _ClassVar[int]
    WCKEY_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    ARRAY_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ARRAY_TASK_FIELD_NUMBER: _ClassVar[int]
    HET_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    HET_OFFSET_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    SLUID_FIELD_NUMBER: _ClassVar[int]
    TIMELIMIT_S_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    TOTAL_CPU_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_RSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    rows: int
    texts: _containers.RepeatedScalarFieldContainer[str]
    tres_sets: _containers.RepeatedCompositeFieldContainer[TresSet]
    cluster: _containers.RepeatedScalarFieldContainer[int]
    job_id: _containers.RepeatedScalarFieldContainer[int]
    submit: _containers.RepeatedScalarFieldContainer[int]
    eligible: _containers.RepeatedScalarFieldContainer[int]
    start: _containers.RepeatedScalarFieldContainer[int]
    end: _containers.RepeatedScalarFieldContainer[int]
    suspended_s: _containers.RepeatedScalarFieldContainer[int]
    slurm_elapsed_s: _containers.RepeatedScalarFieldContainer[int]
    state: _containers.RepeatedScalarFieldContainer[int]
    cancelled_by_uid: _containers.RepeatedScalarFieldContainer[int]
    exit_code: _containers.RepeatedScalarFieldContainer[int]
    exit_signal: _containers.RepeatedScalarFieldContainer[int]
    alloc_tres: _containers.RepeatedScalarFieldContainer[int]
    req_tres: _containers.RepeatedScalarFieldContainer[int]
    alloc_cpus: _containers.RepeatedScalarFieldContainer[int]
    nodes: _containers.RepeatedScalarFieldContainer[int]
    node_list: _containers.RepeatedScalarFieldContainer[int]
    user: _containers.RepeatedScalarFieldContainer[int]
    uid: _containers.RepeatedScalarFieldContainer[int]
    account: _containers.RepeatedScalarFieldContainer[int]
    assoc_id: _containers.RepeatedScalarFieldContainer[int]
    partition: _containers.RepeatedScalarFieldContainer[int]
    qos: _containers.RepeatedScalarFieldContainer[int]
    wckey: _containers.RepeatedScalarFieldContainer[int]
    reservation: _containers.RepeatedScalarFieldContainer[int]
    reservation_id: _containers.RepeatedScalarFieldContainer[int]
    array_job_id: _containers.RepeatedScalarFieldContainer[int]
    array_task: _containers.RepeatedScalarFieldContainer[int]
    het_job_id: _containers.RepeatedScalarFieldContainer[int]
    het_offset: _containers.RepeatedScalarFieldContainer[int]
    restarts: _containers.RepeatedScalarFieldContainer[int]
    sluid: _containers.RepeatedScalarFieldContainer[int]
    timelimit_s: _containers.RepeatedScalarFieldContainer[int]
    energy_j: _containers.RepeatedScalarFieldContainer[int]
    total_cpu_ms: _containers.RepeatedScalarFieldContainer[int]
    max_rss_bytes: _containers.RepeatedScalarFieldContainer[int]
    steps: _containers.RepeatedScalarFieldContainer[int]
    observed: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, rows: _Optional[int] = ..., texts: _Optional[_Iterable[str]] = ..., tres_sets: _Optional[_Iterable[_Union[TresSet, _Mapping]]] = ..., cluster: _Optional[_Iterable[int]] = ..., job_id: _Optional[_Iterable[int]] = ..., submit: _Optional[_Iterable[int]] = ..., eligible: _Optional[_Iterable[int]] = ..., start: _Optional[_Iterable[int]] = ..., end: _Optional[_Iterable[int]] = ..., suspended_s: _Optional[_Iterable[int]] = ..., slurm_elapsed_s: _Optional[_Iterable[int]] = ..., state: _Optional[_Iterable[int]] = ..., cancelled_by_uid: _Optional[_Iterable[int]] = ..., exit_code: _Optional[_Iterable[int]] = ..., exit_signal: _Optional[_Iterable[int]] = ..., alloc_tres: _Optional[_Iterable[int]] = ..., req_tres: _Optional[_Iterable[int]] = ..., alloc_cpus: _Optional[_Iterable[int]] = ..., nodes: _Optional[_Iterable[int]] = ..., node_list: _Optional[_Iterable[int]] = ..., user: _Optional[_Iterable[int]] = ..., uid: _Optional[_Iterable[int]] = ..., account: _Optional[_Iterable[int]] = ..., assoc_id: _Optional[_Iterable[int]] = ..., partition: _Optional[_Iterable[int]] = ..., qos: _Optional[_Iterable[int]] = ..., wckey: _Optional[_Iterable[int]] = ..., reservation: _Optional[_Iterable[int]] = ..., reservation_id: _Optional[_Iterable[int]] = ..., array_job_id: _Optional[_Iterable[int]] = ..., array_task: _Optional[_Iterable[int]] = ..., het_job_id: _Optional[_Iterable[int]] = ..., het_offset: _Optional[_Iterable[int]] = ..., restarts: _Optional[_Iterable[int]] = ..., sluid: _Optional[_Iterable[int]] = ..., timelimit_s: _Optional[_Iterable[int]] = ..., energy_j: _Optional[_Iterable[int]] = ..., total_cpu_ms: _Optional[_Iterable[int]] = ..., max_rss_bytes: _Optional[_Iterable[int]] = ..., steps: _Optional[_Iterable[int]] = ..., observed: _Optional[_Iterable[int]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("index", "reason")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    index: int
    reason: str
    def __init__(self, index: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("number", "verdicts", "refusals")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    number: int
    verdicts: _containers.RepeatedScalarFieldContainer[Verdict]
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    def __init__(self, number: _Optional[int] = ..., verdicts: _Optional[_Iterable[_Union[Verdict, str]]] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ...) -> None: ...
