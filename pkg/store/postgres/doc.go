// Package postgres keeps alarms in PostgreSQL 13 or later: what operators work on, beside whatever columns and tables of their own
// they add.
//
// Its promise: rows, progress and checkpoint of a write are one transaction, on the server's disk when Write returns (a server or
// role that has synchronous_commit off is overruled for it). A stale owner is fenced under a lock on its progress. Each change of
// an alarm is told to whoever listens, by NOTIFY in the same transaction.
//
// Nothing is tried again here; every call ends within Config.Timeout, so a server that hangs shows as an error. An error of Write
// leaves the outcome unknown, and the same write is repeated.
//
// Tables are made by Migrate, never by Open. Start reading at Open, then alarmStore.
package postgres
