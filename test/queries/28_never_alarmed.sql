-- What is in one table and not in another.
SELECT device_id FROM device_state
EXCEPT
SELECT device_id FROM alarms
ORDER BY device_id
