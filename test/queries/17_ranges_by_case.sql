-- Values in words.
SELECT device_id,
       CASE WHEN value < 18 THEN 'cold' WHEN value < 23 THEN 'fine' ELSE 'warm' END AS feels,
       count(*) AS n
FROM device_messages
WHERE channel_key = 'temperature'
GROUP BY device_id, feels
ORDER BY device_id, feels
