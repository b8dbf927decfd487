-- Each temperature beside what the heating was told last before it.
SELECT t.device_id, t.event_time, t.value AS temperature, h.value AS heating
FROM (SELECT * FROM device_messages WHERE channel_key = 'temperature') t
ASOF JOIN (SELECT * FROM device_messages WHERE channel_key = 'heating') h
  ON t.device_id = h.device_id AND t.event_time >= h.event_time
ORDER BY t.device_id, t.event_time
LIMIT 200
