// Package connect opens what a worker works on by what the configuration says: one switch over the schemes of URLs, and the names
// of the file's sections, which every process must know so that it can refuse all others.
//
// Embedded parts exist only within `millrace run`: the standalone service adds them.
package connect
