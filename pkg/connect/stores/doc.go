// Package stores opens the engines that keep Millrace's tables, by what the configuration says of each: one switch from a table to
// its engine, for the workers that write and for the query API that reads. Only what needs a table imports it, so that the edge and the
// router link no store at all.
//
// The embedded engine is not among them: it exists within `millrace run`, which has its files to itself.
package stores
