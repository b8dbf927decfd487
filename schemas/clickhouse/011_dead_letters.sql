-- What else it takes to put a dead letter back, and when that was done. That a letter was put back is its row once more, complete.
ALTER TABLE {{.Internal}}.dead_letters{{.OnCluster}}
    ADD COLUMN IF NOT EXISTS context String CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS replayed_at Nullable(DateTime64(9, 'UTC')),
    ADD COLUMN IF NOT EXISTS replayed_by String;

CREATE OR REPLACE VIEW {{.Database}}.dead_letters{{.OnCluster}} AS
SELECT topic, worker, reason, payload, received_at, tenant, device_id, credential, partition, position, payload_bytes,
    concat(toString(at_partition), '.', toString(bitShiftRight(at_position, 24)), '.', toString(bitAnd(at_position, 16777215))) AS id,
    context, replayed_at, replayed_by
FROM {{.Internal}}.dead_letters FINAL;
