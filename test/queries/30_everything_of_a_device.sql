-- Several tables as one list.
SELECT * FROM (
  SELECT event_time AS moment, 'message' AS what, channel_key || '=' || channel_value AS text FROM device_messages
    WHERE device_id = 'homecontroller' AND event_time >= now() - INTERVAL 3 HOUR
  UNION ALL
  SELECT event_time, 'log', concat(severity, ': ', message) FROM logs WHERE device_id = 'homecontroller'
  UNION ALL
  SELECT raised_at, 'alarm', rule FROM alarms WHERE device_id = 'homecontroller' AND raised_at IS NOT NULL) AS everything
ORDER BY moment, what, text
LIMIT 100
