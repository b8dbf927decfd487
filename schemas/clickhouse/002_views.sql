-- What analysts read: the names and columns of every other engine, each row once and as it is now.

CREATE OR REPLACE VIEW {{.Database}}.device_state{{.OnCluster}} AS
SELECT tenant, device_id, device_type, channel_key, channel_type, channel_value, value, event_time, ingest_time, message_id,
    origin_partition, origin_position
FROM {{.Internal}}.device_state FINAL;

-- Not FINAL: it takes the members of a tuple for columns of their own, and merges them one by one.
CREATE OR REPLACE VIEW {{.Database}}.devices{{.OnCluster}} AS
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
    FROM {{.Internal}}.devices AS d
    GROUP BY tenant, device_id
);

CREATE OR REPLACE VIEW {{.Database}}.device_messages{{.OnCluster}} AS
SELECT tenant, device_id, device_type, channel_key, channel_type, channel_value, value, event_time, ingest_time, message_id, kind,
    device_time, properties, attributes, source, credential, codec, origin_partition, origin_position
FROM {{.Internal}}.device_messages FINAL;

CREATE OR REPLACE VIEW {{.Database}}.logs{{.OnCluster}} AS
SELECT tenant, device_id, device_type, severity, source, message, event_time, ingest_time, message_id, origin_partition, origin_position
FROM {{.Internal}}.logs FINAL;

CREATE OR REPLACE VIEW {{.Database}}.dead_letters{{.OnCluster}} AS
SELECT topic, worker, reason, payload, received_at, tenant, device_id, credential, partition, position, payload_bytes
FROM {{.Internal}}.dead_letters FINAL;

CREATE OR REPLACE VIEW {{.Database}}.aggregates{{.OnCluster}} AS
SELECT tenant, device_id, channel_key, window_start, window_seconds, count, min, max, sum, avg, first, last, p50, p95, p99, revision,
    device_type, first_time, last_time, window_length_ns
FROM {{.Internal}}.aggregates FINAL;

CREATE OR REPLACE VIEW {{.Database}}.alarms{{.OnCluster}} AS
SELECT alarm_id, tenant, rule, device_id, channel_key, severity, state, value, raised_at, acked_at, cleared_at, detail,
    previous_value, revision
FROM {{.Internal}}.alarms FINAL;
