-- What every device says now.
SELECT device_id, channel_key, channel_value, value, event_time
FROM device_state
ORDER BY device_id, channel_key
