package nats

import "fmt"

// Publish sends data to the subscribers of a subject, if there are any: NATS without JetStream, at most once, kept nowhere.
// Live events go this way. It keeps nothing of data, returns before it is sent, and fails while the server is away.
func (l *Log) Publish(subject string, data []byte) error {
	if err := l.conn.Publish(subject, data); err != nil {
		return fmt.Errorf("publish on %s: %w", subject, err)
	}
	return nil
}
