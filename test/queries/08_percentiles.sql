-- Percentiles over raw values.
SELECT device_id, median(value) AS middle, quantile_cont(value, 0.95) AS p95, quantile_cont(value, 0.99) AS p99
FROM device_messages
WHERE channel_key = 'temperature'
GROUP BY device_id
ORDER BY device_id
