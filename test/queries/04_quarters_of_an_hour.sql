-- Intervals of any length up to a day.
SELECT toStartOfInterval(event_time, INTERVAL 15 MINUTE) AS quarter, count(*) AS n, avg(value) AS mean
FROM device_messages
WHERE device_id = 'thermostat-1' AND channel_key = 'temperature' AND event_time >= now() - INTERVAL 6 HOUR
GROUP BY quarter
ORDER BY quarter
