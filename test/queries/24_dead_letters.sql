-- Whose messages are not understood, and why.
SELECT device_id, worker, reason, count(*) AS n, max(received_at) AS last, min(left(payload, 5)) AS example
FROM dead_letters
GROUP BY device_id, worker, reason
ORDER BY n DESC, device_id, reason
