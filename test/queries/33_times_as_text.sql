-- A text is read as a time where one is compared with it.
SELECT count(*) AS n, count(*) FILTER (WHERE event_time >= '2017-04-12T17:00:00Z') AS since_then, count(*) FILTER (WHERE event_time < '2017-04-12') AS before_then
FROM device_messages
