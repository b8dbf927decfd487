-- Null where there is nothing, and what stands for it.
SELECT device_id, channel_key, coalesce(value, -1) AS number, coalesce(nullif(message_id, ''), 'no id') AS id, value IS NULL AS no_number
FROM device_state
ORDER BY device_id, channel_key
