-- How long alarms took this month.
SELECT rule, severity, count(*) AS alarms, count(*) FILTER (WHERE state <> 'cleared') AS still_there,
       avg(date_diff('second', raised_at, acked_at)) AS seconds_until_acknowledged, avg(epoch(cleared_at) - epoch(raised_at)) AS seconds_until_cleared
FROM alarms
WHERE raised_at >= now() - INTERVAL 1 MONTH
GROUP BY rule, severity
ORDER BY rule, severity
