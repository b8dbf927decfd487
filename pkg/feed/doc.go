// Package feed reads the topics telemetry, aggregates, alarms and logs from their end and fans what comes out to subscribers:
// dashboards over server-sent events, NATS subjects, MQTT subscriptions.
//
// Its promise: a subscriber gets each event that its filter lets through, in the order of the log for each device, once; or it is told
// how many it missed, because it was slower than its queue is long, and it never slows the others. Each event bears a
// token of the place in the log behind it. Who subscribes again with a token, here or at another process on the same log,
// goes on there: what came meanwhile is read from the log, without gap or double. Where the log has trimmed some of it, that
// counts as missed.
//
// What nobody has subscribed to is not decoded. An event is encoded once, for all its subscribers. No timer is on the way.
//
// Start reading at Hub.Run, then Hub.take and Subscription.Next.
package feed
