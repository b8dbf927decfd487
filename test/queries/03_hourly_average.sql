-- A day in hours.
SELECT device_id, date_trunc('hour', event_time) AS hour, count(*) AS n, avg(value) AS mean, min(value) AS lowest, max(value) AS highest
FROM device_messages
WHERE channel_key = 'temperature' AND event_time >= now() - INTERVAL 1 DAY
GROUP BY device_id, hour
ORDER BY device_id, hour
