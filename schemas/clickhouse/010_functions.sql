-- Functions by the names that the embedded database has, so that a query means the same on both. They belong to the whole server,
-- not to a database. What ClickHouse has by itself under the same name stays as it is.
CREATE OR REPLACE FUNCTION quantile_cont{{.OnCluster}} AS (x, p) -> quantileExactInclusive(p)(x);

CREATE OR REPLACE FUNCTION arg_max{{.OnCluster}} AS (x, y) -> argMax(x, y);

CREATE OR REPLACE FUNCTION arg_min{{.OnCluster}} AS (x, y) -> argMin(x, y);

CREATE OR REPLACE FUNCTION max_by{{.OnCluster}} AS (x, y) -> argMax(x, y);

CREATE OR REPLACE FUNCTION min_by{{.OnCluster}} AS (x, y) -> argMin(x, y);

CREATE OR REPLACE FUNCTION bool_or{{.OnCluster}} AS (x) -> CAST(max(x), 'Nullable(Bool)');

CREATE OR REPLACE FUNCTION bool_and{{.OnCluster}} AS (x) -> CAST(min(x), 'Nullable(Bool)');

CREATE OR REPLACE FUNCTION approx_count_distinct{{.OnCluster}} AS (x) -> uniq(x);

-- Seconds, milliseconds and nanoseconds since 1970. Seconds are rounded to microseconds, as the embedded database has them.
CREATE OR REPLACE FUNCTION epoch{{.OnCluster}} AS (t) -> intDiv(toUnixTimestamp64Nano(toDateTime64(t, 9, 'UTC')), 1000) / 1000000;

CREATE OR REPLACE FUNCTION epoch_ms{{.OnCluster}} AS (t) -> intDiv(toUnixTimestamp64Nano(toDateTime64(t, 9, 'UTC')), 1000000);

CREATE OR REPLACE FUNCTION epoch_ns{{.OnCluster}} AS (t) -> toUnixTimestamp64Nano(toDateTime64(t, 9, 'UTC'));

CREATE OR REPLACE FUNCTION make_timestamp_ns{{.OnCluster}} AS (n) -> fromUnixTimestamp64Nano(toInt64(n), 'UTC');

CREATE OR REPLACE FUNCTION strftime{{.OnCluster}} AS (t, form) -> formatDateTime(t, form, 'UTC');

CREATE OR REPLACE FUNCTION json_extract_string{{.OnCluster}} AS (json, path) -> JSON_VALUE(json, path);

CREATE OR REPLACE FUNCTION starts_with{{.OnCluster}} AS (s, prefix) -> startsWith(s, prefix);

CREATE OR REPLACE FUNCTION contains{{.OnCluster}} AS (s, part) -> position(s, part) > 0;

CREATE OR REPLACE FUNCTION strpos{{.OnCluster}} AS (s, part) -> positionUTF8(s, part);

CREATE OR REPLACE FUNCTION split_part{{.OnCluster}} AS (s, separator, n) -> arrayElement(splitByString(separator, s), n);
