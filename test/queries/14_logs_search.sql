-- Text in logs, whatever its case.
SELECT device_id, message, severity
FROM logs
WHERE message ILIKE '%ZONE%open%' OR message LIKE 'storage%'
ORDER BY event_time, message
