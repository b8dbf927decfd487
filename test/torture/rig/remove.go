package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/segmentio/kafka-go"

	"github.com/millrace/millrace/pkg/store/archive/bucket"
)

// removePatience is how long engines may take to remove what a run made: one of their nodes may have been started again just now.
const removePatience = time.Minute

// remover deletes what a run made in one engine. It may be called again when it did not get to the end.
type remover func(ctx context.Context) error

// remove deletes all that the run made in engines: a NATS cluster sets room aside for each stream, so the next run would find none.
func (c *cluster) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, removePatience)
	defer cancel()
	var errs []error
	for _, r := range c.made {
		err := r(ctx)
		for err != nil && ctx.Err() == nil {
			nap(ctx, time.Second)
			err = r(ctx)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removeStreams deletes the streams and buckets of a NATS server whose names begin with prefix.
func removeStreams(address, prefix string) remover {
	return func(ctx context.Context) error {
		conn, err := nats.Connect(address)
		if err != nil {
			return fmt.Errorf("remove the streams of %s: %w", prefix, err)
		}
		defer conn.Close()
		js, err := jetstream.New(conn)
		if err != nil {
			return fmt.Errorf("remove the streams of %s: %w", prefix, err)
		}
		all := js.StreamNames(ctx)
		for stream := range all.Name() {
			if !strings.HasPrefix(strings.TrimPrefix(stream, "KV_"), prefix+"_") {
				continue
			}
			if err := js.DeleteStream(ctx, stream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				return fmt.Errorf("remove the stream %s: %w", stream, err)
			}
		}
		if err := all.Err(); err != nil {
			return fmt.Errorf("remove the streams of %s: %w", prefix, err)
		}
		return nil
	}
}

// removeTopics deletes the topics of a Kafka cluster whose names begin with prefix.
func removeTopics(address, prefix string) remover {
	return func(ctx context.Context) error {
		transport := &kafka.Transport{}
		defer transport.CloseIdleConnections()
		client := &kafka.Client{Addr: kafka.TCP(strings.Split(strings.TrimPrefix(address, "kafka://"), ",")...), Transport: transport}
		meta, err := client.Metadata(ctx, &kafka.MetadataRequest{})
		if err != nil {
			return fmt.Errorf("remove the topics of %s: %w", prefix, err)
		}
		var topics []string
		for _, topic := range meta.Topics {
			if strings.HasPrefix(topic.Name, prefix) {
				topics = append(topics, topic.Name)
			}
		}
		if len(topics) == 0 {
			return nil
		}
		answer, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: topics})
		if err != nil {
			return fmt.Errorf("remove the topics of %s: %w", prefix, err)
		}
		return errors.Join(slices.Collect(maps.Values(answer.Errors))...)
	}
}

// removeDatabases drops both databases of a ClickHouse, by its HTTP interface.
func (c *cluster) removeDatabases(address, name string) remover {
	return func(ctx context.Context) error {
		for _, database := range []string{name, name + "_internal"} {
			if _, err := c.call(ctx, http.MethodPost, address, "/", "DROP DATABASE IF EXISTS "+database+" SYNC"); err != nil {
				return err
			}
		}
		return nil
	}
}

// removeSchema drops a schema of PostgreSQL.
func removeSchema(address, name string) remover {
	return func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, address)
		if err != nil {
			return fmt.Errorf("drop the schema %s: %w", name, err)
		}
		_, err = conn.Exec(ctx, "DROP SCHEMA IF EXISTS "+pgx.Identifier{name}.Sanitize()+" CASCADE")
		if err = errors.Join(err, conn.Close(ctx)); err != nil {
			return fmt.Errorf("drop the schema %s: %w", name, err)
		}
		return nil
	}
}

// removeIndices deletes the indices and templates of Elasticsearch whose names begin with prefix.
func (c *cluster) removeIndices(address, prefix string) remover {
	return func(ctx context.Context) error {
		body, err := c.call(ctx, http.MethodGet, address, "/"+prefix+"-*/_alias", "")
		if err != nil {
			return err
		}
		var indices map[string]any
		if err := json.Unmarshal(body, &indices); err != nil {
			return fmt.Errorf("list the indices of %s: %w", prefix, err)
		}
		for part := range slices.Chunk(slices.Sorted(maps.Keys(indices)), 40) { // an address may be 4 KiB
			if _, err := c.call(ctx, http.MethodDelete, address, "/"+strings.Join(part, ","), ""); err != nil {
				return err
			}
		}
		for _, kind := range []string{"/_index_template/", "/_component_template/"} {
			if _, err := c.call(ctx, http.MethodDelete, address, kind+prefix+"-*", ""); err != nil {
				return err
			}
		}
		return nil
	}
}

// removeFiles deletes every file of a bucket's prefix.
func removeFiles(cfg bucket.Config) remover {
	return func(ctx context.Context) (err error) {
		b, err := bucket.Open(ctx, cfg)
		if err != nil {
			return fmt.Errorf("remove the files of %s: %w", cfg.URL, err)
		}
		defer func() { err = errors.Join(err, b.Close()) }()
		for file, err := range b.List(ctx, "") {
			if err == nil {
				err = b.Remove(ctx, file.Key)
			}
			if err != nil {
				return fmt.Errorf("remove the files of %s: %w", cfg.URL, err)
			}
		}
		return nil
	}
}

// call asks an engine by HTTP, with the user of its address.
func (c *cluster) call(ctx context.Context, method, address, path, body string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	u.Path = path
	req, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return answer, err
}
