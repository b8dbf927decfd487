-- Subqueries.
SELECT DISTINCT s.device_id, (SELECT count(*) FROM logs l WHERE l.device_id = s.device_id) AS lines
FROM device_state s
WHERE s.device_id IN (SELECT device_id FROM alarms) AND EXISTS (SELECT 1 FROM logs l WHERE l.device_id = s.device_id)
ORDER BY s.device_id
