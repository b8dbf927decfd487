-- Parts of a whole.
WITH counted AS (SELECT device_id, count(*) AS n FROM device_messages GROUP BY device_id)
SELECT device_id, n, round(100.0 * n / sum(n) OVER (), 2) AS percent, rank() OVER (ORDER BY n DESC) AS place
FROM counted
ORDER BY n DESC, device_id
