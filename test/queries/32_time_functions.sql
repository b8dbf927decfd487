-- Times in parts and in text.
SELECT strftime(event_time, '%Y-%m-%d %H:%M') AS minute, year(event_time) AS y, month(event_time) AS m, day(event_time) AS d, hour(event_time) AS h,
       event_time::DATE AS date, date_trunc('week', event_time) AS week, date_trunc('second', event_time) + INTERVAL 90 MINUTE AS later, epoch_ns(event_time) AS ns
FROM device_state
ORDER BY device_id, channel_key
