-- The tables of ClickHouse. What analysts read are the views of 002; what stands here is in a database of its own, and its rows
-- may be there twice until ClickHouse has merged them, or are older versions.
--
-- Each table replaces rows of the same key, so that a write which is repeated, also cut into other blocks, changes nothing.
-- Times are nanoseconds in UTC. Partitions are days' multiples of a time in the key: equal keys share a partition, so FINAL needs
-- to look at one at a time, and a block of new rows touches one or two.

-- How far each worker has come (kind progress: name is the topic), and the checkpoints of its tasks (kind checkpoint: name is the
-- task, partition 0). One insert has both. No deduplication of blocks: a row of the same version counts when it comes later.
CREATE TABLE IF NOT EXISTS {{.Internal}}.progress{{.OnCluster}} (
    store      LowCardinality(String),
    worker     String,
    kind       LowCardinality(String),
    name       String,
    partition  Int32,
    version    UInt64, -- rises with the position
    through    String, -- "sequence.index" of progress; of a checkpoint the positions that it covers
    body       String CODEC(ZSTD(1)),
    written_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(ZSTD(1))
) ENGINE = {{engine "ReplacingMergeTree" "version"}}
PARTITION BY store
ORDER BY (store, worker, kind, name, partition)
SETTINGS {{.NoWindow}};

-- Latest state. The version orders as the rows do: by event time, then origin.
CREATE TABLE IF NOT EXISTS {{.Internal}}.device_state{{.OnCluster}} (
    tenant           LowCardinality(String),
    device_id        String,
    device_type      LowCardinality(String),
    channel_key      LowCardinality(String),
    channel_type     LowCardinality(String),
    channel_value    String CODEC(ZSTD(1)),
    value            Nullable(Float64),
    event_time       DateTime64(9, 'UTC'),
    ingest_time      DateTime64(9, 'UTC'),
    message_id       String CODEC(ZSTD(1)),
    origin_partition Int32,
    origin_position  Int64,
    version          UInt256 MATERIALIZED bitShiftLeft(toUInt256(bitXor(reinterpretAsUInt64(event_time), 9223372036854775808)), 96)
        + bitShiftLeft(toUInt256(toUInt32(toInt64(origin_partition) + 2147483648)), 64) + toUInt256(reinterpretAsUInt64(origin_position)) CODEC(ZSTD(1))
) ENGINE = {{engine "ReplacingMergeTree" "version"}}
ORDER BY (tenant, device_id, channel_key)
SETTINGS {{.Window}};

-- Devices: each write adds what it saw, and the greatest and least of it are kept. Of tuples the first members decide: when, and
-- for sessions the origin too. at is 0 where there was none.
CREATE TABLE IF NOT EXISTS {{.Internal}}.devices{{.OnCluster}} (
    tenant      LowCardinality(String),
    device_id   String,
    first_seen  SimpleAggregateFunction(min, Nullable(DateTime64(9, 'UTC'))),
    last_seen   SimpleAggregateFunction(max, Nullable(DateTime64(9, 'UTC'))),
    type        SimpleAggregateFunction(max, Tuple(at Int64, device_type String)),
    session     SimpleAggregateFunction(max, Tuple(at Int64, partition Int32, position Int64, known UInt8, connected UInt8, reason String)),
    beginning   SimpleAggregateFunction(max, Tuple(at Int64, partition Int32, position Int64, known UInt8, address String, client_id String, protocol String, credential String))
) ENGINE = {{engine "AggregatingMergeTree"}}
ORDER BY (tenant, device_id)
SETTINGS {{.Window}};

-- History. The key serves questions about a device, a channel, a time; the origin behind it tells two messages of one moment apart
-- from one message that was written twice. The primary key, which is held in memory, ends before it. Old weeks are merged into
-- one part each, which FINAL then reads as it is.
CREATE TABLE IF NOT EXISTS {{.Internal}}.device_messages{{.OnCluster}} (
    tenant           LowCardinality(String),
    device_id        String CODEC(ZSTD(1)),
    device_type      LowCardinality(String),
    channel_key      LowCardinality(String),
    channel_type     LowCardinality(String),
    channel_value    String CODEC(ZSTD(1)),
    value            Nullable(Float64) CODEC(ZSTD(1)),
    event_time       DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    ingest_time      DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    message_id       String CODEC(ZSTD(1)),
    kind             LowCardinality(String),
    device_time      Nullable(DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    properties       Nullable(String) CODEC(ZSTD(1)),
    attributes       Nullable(String) CODEC(ZSTD(1)),
    source           LowCardinality(String),
    credential       LowCardinality(String),
    codec            LowCardinality(String),
    origin_partition Int32 CODEC(Delta, ZSTD(1)),
    origin_position  Int64 CODEC(Delta, ZSTD(1)),
    INDEX by_event_time event_time TYPE minmax GRANULARITY 1,
    INDEX by_ingest_time ingest_time TYPE minmax GRANULARITY 1,
    INDEX by_message_id message_id TYPE bloom_filter(0.01) GRANULARITY 4
) ENGINE = {{engine "ReplacingMergeTree"}}
PARTITION BY toMonday(event_time)
PRIMARY KEY (tenant, device_id, channel_key, event_time)
ORDER BY (tenant, device_id, channel_key, event_time, origin_partition, origin_position)
SETTINGS {{.Window}}, min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

CREATE TABLE IF NOT EXISTS {{.Internal}}.logs{{.OnCluster}} (
    tenant           LowCardinality(String),
    device_id        String CODEC(ZSTD(1)),
    device_type      LowCardinality(String),
    severity         LowCardinality(String),
    source           LowCardinality(String),
    message          String CODEC(ZSTD(1)),
    event_time       DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    ingest_time      DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    message_id       String CODEC(ZSTD(1)),
    origin_partition Int32 CODEC(Delta, ZSTD(1)),
    origin_position  Int64 CODEC(Delta, ZSTD(1)),
    INDEX by_event_time event_time TYPE minmax GRANULARITY 1,
    INDEX by_severity severity TYPE set(8) GRANULARITY 1,
    INDEX by_message lowerUTF8(message) TYPE ngrambf_v1(4, 16384, 3, 0) GRANULARITY 1
) ENGINE = {{engine "ReplacingMergeTree"}}
PARTITION BY toMonday(event_time)
PRIMARY KEY (tenant, device_id, event_time)
ORDER BY (tenant, device_id, event_time, origin_partition, origin_position)
SETTINGS {{.Window}}, min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

-- Dead letters are known by their own place in their topic.
CREATE TABLE IF NOT EXISTS {{.Internal}}.dead_letters{{.OnCluster}} (
    topic         LowCardinality(String),
    worker        LowCardinality(String),
    reason        String CODEC(ZSTD(1)),
    payload       String CODEC(ZSTD(1)),
    received_at   DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    tenant        LowCardinality(String),
    device_id     String CODEC(ZSTD(1)),
    credential    LowCardinality(String),
    partition     Int32,
    position      String CODEC(ZSTD(1)),
    payload_bytes Nullable(String) CODEC(ZSTD(1)),
    at_partition  Int32,
    at_position   Int64
) ENGINE = {{engine "ReplacingMergeTree"}}
PARTITION BY toYYYYMM(received_at)
ORDER BY (received_at, at_partition, at_position)
SETTINGS {{.Window}};

-- Windows. The version is the position of the write: a row is what the log gives up to there.
CREATE TABLE IF NOT EXISTS {{.Internal}}.aggregates{{.OnCluster}} (
    tenant           LowCardinality(String),
    device_id        String CODEC(ZSTD(1)),
    channel_key      LowCardinality(String),
    window_start     DateTime64(9, 'UTC') CODEC(Delta, ZSTD(1)),
    window_seconds   Float64 CODEC(ZSTD(1)),
    count            Int64 CODEC(T64, ZSTD(1)),
    min              Nullable(Float64) CODEC(ZSTD(1)),
    max              Nullable(Float64) CODEC(ZSTD(1)),
    sum              Nullable(Float64) CODEC(ZSTD(1)),
    avg              Nullable(Float64) CODEC(ZSTD(1)),
    first            Nullable(Float64) CODEC(ZSTD(1)),
    last             Nullable(Float64) CODEC(ZSTD(1)),
    p50              Nullable(Float64) CODEC(ZSTD(1)),
    p95              Nullable(Float64) CODEC(ZSTD(1)),
    p99              Nullable(Float64) CODEC(ZSTD(1)),
    revision         Int32 CODEC(T64, ZSTD(1)),
    device_type      LowCardinality(String),
    first_time       Nullable(DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    last_time        Nullable(DateTime64(9, 'UTC')) CODEC(ZSTD(1)),
    window_length_ns Int64 CODEC(T64, ZSTD(1)),
    version          UInt64 CODEC(Delta, ZSTD(1))
) ENGINE = {{engine "ReplacingMergeTree" "version"}}
PARTITION BY toYYYYMM(window_start)
ORDER BY (tenant, device_id, channel_key, window_length_ns, window_start)
SETTINGS {{.Window}};

-- The same windows with their states, for as long as they may be corrected; every version of them, since a worker that was killed
-- between its rows and its progress must find what was there before.
CREATE TABLE IF NOT EXISTS {{.Internal}}.aggregate_states{{.OnCluster}} (
    tenant           LowCardinality(String),
    device_id        String,
    channel_key      LowCardinality(String),
    window_start     DateTime64(9, 'UTC'),
    window_length_ns Int64,
    version          UInt64,
    worker           LowCardinality(String), -- whose progress in topic and partition must have reached through before the row counts
    topic            LowCardinality(String),
    partition        Int32,
    through          Int64,
    device_type      LowCardinality(String),
    count            Int64,
    min              Float64,
    max              Float64,
    sum              Float64,
    first            Float64,
    last             Float64,
    p50              Float64,
    p95              Float64,
    p99              Float64,
    revision         Int32,
    first_time       Int64, -- nanoseconds, 0 where there is none
    last_time        Int64,
    state_until      DateTime64(9, 'UTC'),
    state            String CODEC(ZSTD(1))
) ENGINE = {{engine "ReplacingMergeTree"}}
PARTITION BY toStartOfHour(state_until)
PRIMARY KEY (tenant, device_id, channel_key, window_length_ns, window_start)
ORDER BY (tenant, device_id, channel_key, window_length_ns, window_start, version)
SETTINGS {{.Window}};

CREATE TABLE IF NOT EXISTS {{.Internal}}.alarms{{.OnCluster}} (
    alarm_id       String,
    tenant         LowCardinality(String),
    rule           LowCardinality(String),
    device_id      String,
    channel_key    LowCardinality(String),
    severity       LowCardinality(String),
    state          LowCardinality(String),
    value          String,
    raised_at      Nullable(DateTime64(9, 'UTC')),
    acked_at       Nullable(DateTime64(9, 'UTC')),
    cleared_at     Nullable(DateTime64(9, 'UTC')),
    detail         Nullable(String),
    previous_value String,
    revision       Int32,
    position       UInt64, -- of the write: of two rows of one revision the one further on in the log counts
    version        UInt128 MATERIALIZED bitShiftLeft(toUInt128(toUInt32(revision)), 64) + toUInt128(position)
) ENGINE = {{engine "ReplacingMergeTree" "version"}}
ORDER BY alarm_id
SETTINGS {{.Window}};
