-- What was so two hours ago.
SELECT device_id, channel_key, arg_max(channel_value, event_time) AS value_then, max(event_time) AS since
FROM device_messages
WHERE event_time < now() - INTERVAL 2 HOUR
GROUP BY device_id, channel_key
ORDER BY device_id, channel_key
