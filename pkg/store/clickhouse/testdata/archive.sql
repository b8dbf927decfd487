-- bootstrap
CREATE DATABASE IF NOT EXISTS db;

-- bootstrap
CREATE DATABASE IF NOT EXISTS db_internal;

-- bootstrap
CREATE TABLE IF NOT EXISTS db_internal.schema_migrations (version UInt32, name String, breaking UInt8, done_at DateTime('UTC') DEFAULT now())
ENGINE = ReplicatedReplacingMergeTree('/other/{table}', '{replica}')
ORDER BY version;

-- 001_tables.sql
CREATE TABLE IF NOT EXISTS db_internal.progress (
    store      LowCardinality(String),
    worker     String,
    kind       LowCardinality(String),
    name       String,
    partition  Int32,
    version    UInt64, -- rises with the position
    through    String, -- "sequence.index" of progress; of a checkpoint the positions that it covers
    body       String CODEC(ZSTD(1)),
    written_at DateTime64(3, 'UTC') DEFAULT now64(3) CODEC(ZSTD(1))
) ENGINE = ReplicatedReplacingMergeTree('/other/{table}', '{replica}', version)
PARTITION BY store
ORDER BY (store, worker, kind, name, partition)
SETTINGS replicated_deduplication_window = 0;

-- 001_tables.sql
CREATE TABLE IF NOT EXISTS db_internal.device_state (
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
) ENGINE = ReplicatedReplacingMergeTree('/other/{table}', '{replica}', version)
ORDER BY (tenant, device_id, channel_key)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

-- 001_tables.sql
CREATE TABLE IF NOT EXISTS db_internal.devices (
    tenant      LowCardinality(String),
    device_id   String,
    first_seen  SimpleAggregateFunction(min, Nullable(DateTime64(9, 'UTC'))),
    last_seen   SimpleAggregateFunction(max, Nullable(DateTime64(9, 'UTC'))),
    type        SimpleAggregateFunction(max, Tuple(at Int64, device_type String)),
    session     SimpleAggregateFunction(max, Tuple(at Int64, partition Int32, position Int64, known UInt8, connected UInt8, reason String)),
    beginning   SimpleAggregateFunction(max, Tuple(at Int64, partition Int32, position Int64, known UInt8, address String, client_id String, protocol String, credential String))
) ENGINE = ReplicatedAggregatingMergeTree('/other/{table}', '{replica}')
ORDER BY (tenant, device_id)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

-- 001_tables.sql
CREATE TABLE IF NOT EXISTS db_internal.device_messages (
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
) ENGINE = ReplicatedReplacingMergeTree('/other/{table}', '{replica}')
PARTITION BY toMonday(event_time)
PRIMARY KEY (tenant, device_id, channel_key, event_time)
ORDER BY (tenant, device_id, channel_key, event_time, origin_partition, origin_position)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

-- 001_tables.sql
CREATE TABLE IF NOT EXISTS db_internal.logs (
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
) ENGINE = ReplicatedReplacingMergeTree('/other/{table}', '{replica}')
PARTITION BY toMonday(event_time)
PRIMARY KEY (tenant, device_id, event_time)
ORDER BY (tenant, device_id, event_time, origin_partition, origin_position)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800, min_age_to_force_merge_seconds = 86400, min_age_to_force_merge_on_partition_only = 1;

-- 001_tables.sql
CREATE TABLE IF NOT EXISTS db_internal.dead_letters (
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
) ENGINE = ReplicatedReplacingMergeTree('/other/{table}', '{replica}')
PARTITION BY toYYYYMM(received_at)
ORDER BY (received_at, at_partition, at_position)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

-- 001_tables.sql
CREATE TABLE IF NOT EXISTS db_internal.aggregates (
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
) ENGINE = ReplicatedReplacingMergeTree('/other/{table}', '{replica}', version)
PARTITION BY toYYYYMM(window_start)
ORDER BY (tenant, device_id, channel_key, window_length_ns, window_start)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

-- 001_tables.sql
CREATE TABLE IF NOT EXISTS db_internal.aggregate_states (
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
) ENGINE = ReplicatedReplacingMergeTree('/other/{table}', '{replica}')
PARTITION BY toStartOfHour(state_until)
PRIMARY KEY (tenant, device_id, channel_key, window_length_ns, window_start)
ORDER BY (tenant, device_id, channel_key, window_length_ns, window_start, version)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

-- 001_tables.sql
CREATE TABLE IF NOT EXISTS db_internal.alarms (
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
) ENGINE = ReplicatedReplacingMergeTree('/other/{table}', '{replica}', version)
ORDER BY alarm_id
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

-- 001_tables.sql
INSERT INTO db_internal.schema_migrations (version, name, breaking) VALUES (1, '001_tables.sql', 0);

-- 002_views.sql
CREATE OR REPLACE VIEW db.device_state AS
SELECT tenant, device_id, device_type, channel_key, channel_type, channel_value, value, event_time, ingest_time, message_id,
    origin_partition, origin_position
FROM db_internal.device_state FINAL;

-- 002_views.sql
CREATE OR REPLACE VIEW db.devices AS
SELECT
    tenant,
    device_id,
    type.device_type AS device_type,
    first_seen,
    last_seen,
    if(session.known = 1, session.connected = 1, NULL)::Nullable(Bool) AS connected,
    if(beginning.known = 1, fromUnixTimestamp64Nano(beginning.at, 'UTC'), NULL) AS connected_since,
    if(session.known = 1 AND session.connected = 0, fromUnixTimestamp64Nano(session.at, 'UTC'), NULL) AS disconnected_at,
    session.reason AS disconnect_reason,
    beginning.address AS address,
    beginning.client_id AS client_id,
    beginning.protocol AS protocol,
    beginning.credential AS credential
FROM (
    SELECT tenant, device_id, min(d.first_seen) AS first_seen, max(d.last_seen) AS last_seen, max(d.type) AS type,
        max(d.session) AS session, max(d.beginning) AS beginning
    FROM db_internal.devices AS d
    GROUP BY tenant, device_id
);

-- 002_views.sql
CREATE OR REPLACE VIEW db.device_messages AS
SELECT tenant, device_id, device_type, channel_key, channel_type, channel_value, value, event_time, ingest_time, message_id, kind,
    device_time, properties, attributes, source, credential, codec, origin_partition, origin_position
FROM db_internal.device_messages FINAL;

-- 002_views.sql
CREATE OR REPLACE VIEW db.logs AS
SELECT tenant, device_id, device_type, severity, source, message, event_time, ingest_time, message_id, origin_partition, origin_position
FROM db_internal.logs FINAL;

-- 002_views.sql
CREATE OR REPLACE VIEW db.dead_letters AS
SELECT topic, worker, reason, payload, received_at, tenant, device_id, credential, partition, position, payload_bytes
FROM db_internal.dead_letters FINAL;

-- 002_views.sql
CREATE OR REPLACE VIEW db.aggregates AS
SELECT tenant, device_id, channel_key, window_start, window_seconds, count, min, max, sum, avg, first, last, p50, p95, p99, revision,
    device_type, first_time, last_time, window_length_ns
FROM db_internal.aggregates FINAL;

-- 002_views.sql
CREATE OR REPLACE VIEW db.alarms AS
SELECT alarm_id, tenant, rule, device_id, channel_key, severity, state, value, raised_at, acked_at, cleared_at, detail,
    previous_value, revision
FROM db_internal.alarms FINAL;

-- 002_views.sql
INSERT INTO db_internal.schema_migrations (version, name, breaking) VALUES (2, '002_views.sql', 0);

-- settings
ALTER TABLE db_internal.device_messages MODIFY TTL toDateTime(event_time) + toIntervalSecond(7776000);

-- settings
ALTER TABLE db_internal.logs MODIFY TTL toDateTime(ingest_time) + toIntervalSecond(3600);

-- settings
ALTER TABLE db_internal.dead_letters MODIFY TTL toDateTime(received_at) + toIntervalSecond(60);

-- settings
ALTER TABLE db_internal.aggregates MODIFY TTL toDateTime(window_start) + toIntervalSecond(1);

-- settings
CREATE OR REPLACE VIEW db.archive AS
SELECT tenant, device_id, device_type, channel_key, channel_type, channel_value, value, event_time, ingest_time, message_id, kind, device_time, properties, attributes, source, credential, codec, origin_partition, origin_position FROM s3(archive, url = 'https://s3.example/bucket/archive/**.parquet', format = 'Parquet', structure = 'tenant String, device_id String, device_type String, channel_key String, channel_type String, channel_value String, value Nullable(Float64), event_time DateTime64(9, \'UTC\'), ingest_time DateTime64(9, \'UTC\'), message_id String, kind String, device_time Nullable(DateTime64(9, \'UTC\')), properties Nullable(String), attributes Nullable(String), source String, credential String, codec String, origin_partition Int32, origin_position Int64') AS cold
COMMENT 'millrace b5cf37587b667088';

-- settings
CREATE OR REPLACE VIEW db.history AS
SELECT tenant, device_id, device_type, channel_key, channel_type, channel_value, value, event_time, ingest_time, message_id, kind, device_time, properties, attributes, source, credential, codec, origin_partition, origin_position FROM db.device_messages AS warm WHERE event_time >= toDateTime64(now() - toIntervalSecond(7776000), 9, 'UTC')
UNION ALL
SELECT tenant, device_id, device_type, channel_key, channel_type, channel_value, value, event_time, ingest_time, message_id, kind, device_time, properties, attributes, source, credential, codec, origin_partition, origin_position FROM db.archive WHERE event_time < toDateTime64(now() - toIntervalSecond(7776000), 9, 'UTC')
COMMENT 'millrace d6fee1d9c7ab5ddd';

