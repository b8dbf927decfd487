-- Open alarms of each device, those without any included.
SELECT d.device_id, count(a.alarm_id) AS open_alarms, max(a.raised_at) AS newest
FROM devices d
LEFT JOIN (SELECT * FROM alarms WHERE state <> 'cleared') a ON a.device_id = d.device_id
GROUP BY d.device_id
ORDER BY open_alarms DESC, d.device_id
