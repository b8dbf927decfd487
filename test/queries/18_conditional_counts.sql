-- Several counts in one pass.
SELECT date_trunc('day', event_time) AS day,
       count(*) AS n,
       count(*) FILTER (WHERE value IS NULL) AS without_number,
       count(*) FILTER (WHERE channel_key = 'temperature' AND value > 22) AS warm,
       sum(value) FILTER (WHERE channel_key = 'heating') AS heating
FROM device_messages
GROUP BY day
ORDER BY day
