-- Where a device was silent for longer than it should be. lag gives null before the first row: toNullable says so to ClickHouse.
SELECT device_id, before, event_time, date_diff('minute', before, event_time) AS minutes
FROM (
  SELECT device_id, event_time, lag(toNullable(event_time)) OVER (PARTITION BY device_id ORDER BY event_time) AS before
  FROM device_messages
  WHERE channel_key = 'temperature') AS steps
WHERE before IS NOT NULL AND date_diff('minute', before, event_time) > 20
ORDER BY device_id, event_time
