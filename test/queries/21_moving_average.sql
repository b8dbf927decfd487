-- A mean over the last hour of samples.
SELECT event_time, value,
       avg(value) OVER (ORDER BY event_time ROWS BETWEEN 11 PRECEDING AND CURRENT ROW) AS moving,
       value - lag(value) OVER (ORDER BY event_time) AS step,
       row_number() OVER (ORDER BY event_time) AS n
FROM device_messages
WHERE device_id = 'thermostat-2' AND channel_key = 'temperature' AND event_time >= now() - INTERVAL 4 HOUR
ORDER BY event_time
