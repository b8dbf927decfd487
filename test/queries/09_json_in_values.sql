-- Into JSON that a device sent.
SELECT device_id, json_extract_string(channel_value, '$.Name') AS name, json_extract_string(channel_value, '$.Partitions[0].state') AS first_state,
       json_extract_string(channel_value, '$.nothing') AS nothing
FROM device_state
WHERE channel_type = 'json'
ORDER BY device_id, channel_key
