-- What the logs say, by gravity.
SELECT severity, count(*) AS n, count(DISTINCT device_id) AS devices, min(event_time) AS earliest, max(event_time) AS latest
FROM logs
WHERE severity IN ('Warning', 'Error', 'Critical')
GROUP BY severity
ORDER BY n DESC, severity
