-- How long each window stood open: each row lasts until the device's next one.
WITH spans AS (
  SELECT device_id, channel_value AS state, event_time,
         lead(toNullable(event_time)) OVER (PARTITION BY device_id ORDER BY event_time) AS until
  FROM device_messages
  WHERE channel_key = 'window')
SELECT device_id, sum(date_diff('second', event_time, until)) AS seconds_open, count(*) AS times
FROM spans
WHERE state = 'open' AND until IS NOT NULL
GROUP BY device_id
ORDER BY device_id
