-- The newest row of each group.
SELECT device_id, channel_key, event_time, channel_value
FROM device_messages
QUALIFY row_number() OVER (PARTITION BY device_id, channel_key ORDER BY event_time DESC, origin_partition DESC, origin_position DESC) = 1
ORDER BY device_id, channel_key
