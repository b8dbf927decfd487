-- Alarms in PostgreSQL 13 or later. {schema} is the schema of the configuration.
--
-- What analysts read bears the names of every other engine. timestamptz holds microseconds and devices stamp finer, so the times
-- are kept as nanoseconds since 1970 in *_ns, and the columns that people read are made from them by the database; likewise jsonb,
-- which sorts members and forgets how numbers were written, from text.
--
-- Texts are in collation "C": they compare byte by byte, as in every other engine.
--
-- Columns may be added to alarms (an assignee, a note): Millrace never touches a column that it does not know. They need a default,
-- or must take null.

CREATE TABLE {schema}.alarms (
    alarm_id       text COLLATE "C" PRIMARY KEY,
    tenant         text COLLATE "C" NOT NULL,
    rule           text COLLATE "C" NOT NULL,
    device_id      text COLLATE "C" NOT NULL,
    channel_key    text COLLATE "C" NOT NULL,
    severity       text COLLATE "C" NOT NULL,
    state          text COLLATE "C" NOT NULL, -- raised, acknowledged or cleared
    value          text COLLATE "C" NOT NULL,
    raised_at      timestamptz GENERATED ALWAYS AS ((timestamp '1970-01-01' + (raised_at_ns / 1000) * interval '1 microsecond') AT TIME ZONE 'UTC') STORED,
    acked_at       timestamptz GENERATED ALWAYS AS ((timestamp '1970-01-01' + (acked_at_ns / 1000) * interval '1 microsecond') AT TIME ZONE 'UTC') STORED,
    cleared_at     timestamptz GENERATED ALWAYS AS ((timestamp '1970-01-01' + (cleared_at_ns / 1000) * interval '1 microsecond') AT TIME ZONE 'UTC') STORED,
    detail         jsonb GENERATED ALWAYS AS (detail_text::jsonb) STORED,
    previous_value text COLLATE "C" NOT NULL,
    revision       bigint NOT NULL,
    raised_at_ns   bigint,
    acked_at_ns    bigint,
    cleared_at_ns  bigint,
    detail_text    text COLLATE "C" -- JSON as it was written
);
CREATE INDEX alarms_by_time ON {schema}.alarms (raised_at_ns, alarm_id);
CREATE INDEX alarms_by_device ON {schema}.alarms (tenant, device_id);
CREATE INDEX alarms_open ON {schema}.alarms (raised_at_ns) WHERE state <> 'cleared';

-- How far each worker has come, written in the transaction of the rows: through for people, progress in full for the worker.
CREATE TABLE {schema}.progress_alarms (
    worker    text COLLATE "C" NOT NULL,
    topic     text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    through   text NOT NULL,
    progress  bytea NOT NULL,
    PRIMARY KEY (worker, topic, partition)
);

-- The state of the rules of each task, written in the same transaction. It does not shrink much, so no time is spent trying.
CREATE TABLE {schema}.checkpoints_alarms (
    worker text COLLATE "C" NOT NULL,
    task   text COLLATE "C" NOT NULL,
    state  bytea NOT NULL,
    PRIMARY KEY (worker, task)
);
ALTER TABLE {schema}.checkpoints_alarms ALTER COLUMN state SET STORAGE EXTERNAL;
