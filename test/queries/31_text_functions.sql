-- Names taken apart.
SELECT DISTINCT device_id, split_part(device_id, '-', 1) AS family, upper(left(device_id, 3)) AS short, replace(device_id, '-', '_') AS plain,
       starts_with(device_id, 'thermo') AS thermostat, char_length(device_id) AS characters, substring(device_id, 2, 3) AS middle, strpos(device_id, '-') AS dash
FROM device_state
ORDER BY device_id
