-- One row a device, one column a channel.
SELECT device_id,
       max(CASE WHEN channel_key = 'temperature' THEN value END) AS temperature,
       max(CASE WHEN channel_key = 'heating' THEN value END) AS heating,
       bool_or(channel_key = 'window') AS has_window
FROM device_state
GROUP BY device_id
ORDER BY device_id
