-- An aggregate over nothing is null, a count 0.
SELECT count(*) AS n, sum(value) AS total, avg(value) AS mean, max(event_time) AS newest, min(device_id) AS first_device
FROM device_messages
WHERE device_id = 'nobody'
