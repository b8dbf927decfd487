-- How far what is now is from the last full hour.
SELECT s.device_id, s.value AS now_value, a.avg AS hour_mean, s.value - a.avg AS away
FROM device_state s
JOIN (SELECT device_id, channel_key, arg_max(avg, window_start) AS avg FROM aggregates WHERE window_seconds = 3600 GROUP BY device_id, channel_key) a
  ON s.device_id = a.device_id AND s.channel_key = a.channel_key
WHERE s.channel_key = 'temperature'
ORDER BY s.device_id
