// Package live is what people and programs ask: a stream of events as they happen, the query API, and the page at "/".
//
// It follows the log's end through a feed.Hub and serves each event to whoever asked for it, over server-sent events and on
// NATS subjects; what it promises there is the hub's promise. It reads the stores in SQL through the interface Store and
// writes nothing but operators' acknowledgements, onto the topic alarm-commands. schemas/openapi.yaml describes all of it, and a
// test holds it against routes.
//
// Start reading at New and Live.routes; a file for each resource.
package live
