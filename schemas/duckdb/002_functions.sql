-- Functions by the names that ClickHouse has, so that a query means the same on both.

-- The beginning of the interval that t is in, as ClickHouse counts intervals of up to a day: from 1970.
CREATE MACRO toStartOfInterval(t, i) AS time_bucket(i, t::TIMESTAMP, TIMESTAMP '1970-01-01');

-- Everything may be null here; in ClickHouse lag and lead of a column that may not give 1970 or an empty text beyond the edge.
CREATE MACRO toNullable(x) AS x;
