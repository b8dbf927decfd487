-- How late messages arrive.
SELECT device_id, count(*) AS n, quantile_cont(epoch_ms(ingest_time) - epoch_ms(event_time), 0.95) AS p95_ms, max(epoch_ns(ingest_time) - epoch_ns(event_time)) AS worst_ns
FROM device_messages
GROUP BY device_id
ORDER BY p95_ms DESC, device_id
