-- Who says most.
SELECT device_id, count(*) AS n, count(DISTINCT channel_key) AS channels
FROM device_messages
GROUP BY device_id
ORDER BY n DESC, device_id
LIMIT 3
