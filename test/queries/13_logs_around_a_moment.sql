-- The lines before the last critical one of each device.
WITH critical AS (SELECT device_id, max(event_time) AS moment FROM logs WHERE severity = 'Critical' GROUP BY device_id)
SELECT l.device_id, l.event_time, l.severity, l.message
FROM logs l JOIN critical c ON l.device_id = c.device_id
WHERE l.event_time BETWEEN c.moment - INTERVAL 10 MINUTE AND c.moment
ORDER BY l.device_id, l.event_time, l.message
