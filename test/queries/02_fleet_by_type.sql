-- How large the fleet is, and when its parts spoke last.
SELECT device_type, count(*) AS channels, count(DISTINCT device_id) AS devices, max(event_time) AS newest
FROM device_state
GROUP BY device_type
ORDER BY device_type
