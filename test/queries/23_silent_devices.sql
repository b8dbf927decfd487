-- Who is there, and who has been silent.
SELECT device_id, connected, disconnect_reason, date_diff('minute', last_seen, now()) > 60 AS silent, address
FROM devices
ORDER BY device_id
