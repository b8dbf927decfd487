-- Groups that are large enough.
SELECT extract(hour FROM event_time) AS hour_of_day, count(*) AS n, count(DISTINCT device_id) AS devices
FROM device_messages
GROUP BY hour_of_day
HAVING count(*) > 100
ORDER BY hour_of_day
