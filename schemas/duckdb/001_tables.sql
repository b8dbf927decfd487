-- The tables of the embedded database. What analysts read is in schema main and bears the names and columns of every other
-- engine; what only the driver needs is in schema internal.
--
-- Times are TIMESTAMP_NS in UTC: devices stamp to 100 ns, and TIMESTAMP holds microseconds only.

CREATE SCHEMA internal;

-- now() and current_timestamp give TIMESTAMP WITH TIME ZONE, which DuckDB does not compare with TIMESTAMP_NS. These give
-- TIMESTAMP (UTC: the driver sets the time zone), so that `event_time > now() - INTERVAL 1 HOUR` works as it does elsewhere.
CREATE MACRO now() AS localtimestamp;
CREATE MACRO get_current_timestamp() AS localtimestamp;

-- Latest state. No index: the driver keeps the keys in memory and joins by state_id, which is dense and never reused.
CREATE TABLE internal.device_state (
    state_id         BIGINT NOT NULL,
    tenant           VARCHAR NOT NULL,
    device_id        VARCHAR NOT NULL,
    device_type      VARCHAR NOT NULL,
    channel_key      VARCHAR NOT NULL,
    channel_type     VARCHAR NOT NULL,
    channel_value    VARCHAR NOT NULL,
    value            DOUBLE,
    event_time       TIMESTAMP_NS NOT NULL,
    ingest_time      TIMESTAMP_NS NOT NULL,
    message_id       VARCHAR NOT NULL,
    origin_partition INTEGER NOT NULL,
    origin_position  BIGINT NOT NULL
);
CREATE VIEW device_state AS SELECT * EXCLUDE (state_id) FROM internal.device_state;

CREATE TABLE internal.devices (
    entry_id          BIGINT NOT NULL,
    tenant            VARCHAR NOT NULL,
    device_id         VARCHAR NOT NULL,
    device_type       VARCHAR NOT NULL,
    first_seen        TIMESTAMP_NS,
    last_seen         TIMESTAMP_NS,
    connected         BOOLEAN, -- null: never seen on a connection that has a beginning and an end
    connected_since   TIMESTAMP_NS,
    disconnected_at   TIMESTAMP_NS,
    disconnect_reason VARCHAR NOT NULL,
    address           VARCHAR NOT NULL,
    client_id         VARCHAR NOT NULL,
    protocol          VARCHAR NOT NULL,
    credential        VARCHAR NOT NULL,
    session_time      TIMESTAMP_NS, -- of the newest session message, by which a replay is told
    session_partition INTEGER NOT NULL,
    session_position  BIGINT NOT NULL
);
CREATE VIEW devices AS
    SELECT * EXCLUDE (entry_id, session_time, session_partition, session_position) FROM internal.devices;

CREATE TABLE logs (
    tenant           VARCHAR NOT NULL,
    device_id        VARCHAR NOT NULL,
    device_type      VARCHAR NOT NULL,
    severity         VARCHAR NOT NULL, -- Trace, Debug, Info, Warning, Error or Critical, as gateways write them
    source           VARCHAR NOT NULL, -- the part of the device that wrote the line
    message          VARCHAR NOT NULL,
    event_time       TIMESTAMP_NS NOT NULL,
    ingest_time      TIMESTAMP_NS NOT NULL,
    message_id       VARCHAR NOT NULL,
    origin_partition INTEGER NOT NULL,
    origin_position  BIGINT NOT NULL
);

CREATE TABLE dead_letters (
    topic         VARCHAR NOT NULL,
    worker        VARCHAR NOT NULL,
    reason        VARCHAR NOT NULL,
    payload       VARCHAR NOT NULL, -- as text; of bytes that are no text, the escaped form: decode(payload_bytes) has them
    received_at   TIMESTAMP_NS NOT NULL,
    tenant        VARCHAR NOT NULL,
    device_id     VARCHAR NOT NULL,
    credential    VARCHAR NOT NULL,
    partition     INTEGER NOT NULL,
    position      VARCHAR NOT NULL, -- "sequence.index" in the topic
    payload_bytes BLOB              -- the exact bytes, only where payload is escaped
);

CREATE TABLE aggregates (
    tenant           VARCHAR NOT NULL,
    device_id        VARCHAR NOT NULL,
    channel_key      VARCHAR NOT NULL,
    window_start     TIMESTAMP_NS NOT NULL,
    window_seconds   DOUBLE NOT NULL, -- a session window may end between two seconds
    count            BIGINT NOT NULL,
    min              DOUBLE,
    max              DOUBLE,
    sum              DOUBLE,
    avg              DOUBLE,
    first            DOUBLE,
    last             DOUBLE,
    p50              DOUBLE,
    p95              DOUBLE,
    p99              DOUBLE,
    revision         INTEGER NOT NULL,
    device_type      VARCHAR NOT NULL,
    first_time       TIMESTAMP_NS,
    last_time        TIMESTAMP_NS,
    window_length_ns BIGINT NOT NULL
);
CREATE TABLE internal.aggregate_states (
    tenant           VARCHAR NOT NULL,
    device_id        VARCHAR NOT NULL,
    channel_key      VARCHAR NOT NULL,
    window_start     TIMESTAMP_NS NOT NULL,
    window_length_ns BIGINT NOT NULL,
    state_until      TIMESTAMP_NS NOT NULL,
    state            BLOB NOT NULL
);

CREATE TABLE alarms (
    alarm_id       VARCHAR NOT NULL,
    tenant         VARCHAR NOT NULL,
    rule           VARCHAR NOT NULL,
    device_id      VARCHAR NOT NULL,
    channel_key    VARCHAR NOT NULL,
    severity       VARCHAR NOT NULL,
    state          VARCHAR NOT NULL, -- raised, acknowledged or cleared
    value          VARCHAR NOT NULL,
    raised_at      TIMESTAMP_NS,
    acked_at       TIMESTAMP_NS,
    cleared_at     TIMESTAMP_NS,
    detail         VARCHAR, -- JSON
    previous_value VARCHAR NOT NULL,
    revision       INTEGER NOT NULL
);

-- How far each worker has come, written in the transaction of the rows. A table for each store, so that no two connections
-- ever touch the same one.
CREATE TABLE internal.progress_state (worker VARCHAR NOT NULL, topic VARCHAR NOT NULL, partition INTEGER NOT NULL, through VARCHAR NOT NULL, progress BLOB NOT NULL);
CREATE TABLE internal.progress_logs (worker VARCHAR NOT NULL, topic VARCHAR NOT NULL, partition INTEGER NOT NULL, through VARCHAR NOT NULL, progress BLOB NOT NULL);
CREATE TABLE internal.progress_dead_letters (worker VARCHAR NOT NULL, topic VARCHAR NOT NULL, partition INTEGER NOT NULL, through VARCHAR NOT NULL, progress BLOB NOT NULL);
CREATE TABLE internal.progress_aggregates (worker VARCHAR NOT NULL, topic VARCHAR NOT NULL, partition INTEGER NOT NULL, through VARCHAR NOT NULL, progress BLOB NOT NULL);
CREATE TABLE internal.progress_alarms (worker VARCHAR NOT NULL, topic VARCHAR NOT NULL, partition INTEGER NOT NULL, through VARCHAR NOT NULL, progress BLOB NOT NULL);

-- Checkpoints of stateful workers: small ones in state, larger ones in the file of that name beside the database.
CREATE TABLE internal.checkpoints_aggregates (worker VARCHAR NOT NULL, task VARCHAR NOT NULL, state BLOB, file VARCHAR, crc BIGINT NOT NULL);
CREATE TABLE internal.checkpoints_alarms (worker VARCHAR NOT NULL, task VARCHAR NOT NULL, state BLOB, file VARCHAR, crc BIGINT NOT NULL);
