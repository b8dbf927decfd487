-- A long time from windows that are computed already; means are weighted by their counts.
SELECT channel_key, date_trunc('day', window_start) AS day,
       sum("count") AS n, min("min") AS lowest, max("max") AS highest, sum("sum") / sum("count") AS mean, max(p99) AS p99_at_most
FROM aggregates
WHERE window_length_ns = 3600000000000
GROUP BY channel_key, day
ORDER BY channel_key, day
