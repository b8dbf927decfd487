-- Parts of a whole.
WITH counted AS (SELECT device_id, count(*) AS n FROM device_messages GROUP BY device_id)
SELECT device_id, n, 100.0 * n / sum(n) OVER () AS percent, rank() OVER (ORDER BY n DESC) AS place
FROM counted
ORDER BY n DESC, device_id
