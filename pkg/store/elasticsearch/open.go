package elasticsearch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/pkg/store"
)

// ErrMigrate says that the templates on the server are missing or older than this program needs: run millrace migrate.
var ErrMigrate = errors.New("run millrace migrate")

// The oldest server that this package was written for.
const versionMajor, versionMinor = 8, 19

// DB is a cluster. All its stores may be used at once.
type DB struct {
	cfg    Config
	client *client
	ilm    bool // the server deletes old indices itself

	state       *stateStore
	logs        *appending[store.MessageRow]
	history     history
	deadLetters *appending[store.DeadLetterRow]
	aggregates  *aggregateStore

	upkeep    sync.WaitGroup
	close     func() error
	closeOnce sync.Once
}

// Open looks whether the server can be reached and has the templates that Migrate puts there, else ErrMigrate. It warns where
// an index does not sync each write. Until Close it deletes what is past its time, see Config.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	db, err := open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open elasticsearch: %w", err)
	}
	return db, nil
}

func open(ctx context.Context, cfg Config) (*DB, error) {
	db, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	err = db.checkTemplates(ctx)
	if err == nil {
		err = db.warnAsync(ctx)
	}
	if err == nil {
		db.ilm, err = db.hasILM(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, db.client.close(ctx))
	}
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	db.close = func() error {
		stop()
		db.upkeep.Wait()
		return db.client.close(keeping)
	}
	db.upkeep.Go(func() { db.keep(keeping) })
	return db, nil
}

// connect makes a DB whose server has answered.
func connect(ctx context.Context, cfg Config) (*DB, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c, err := newClient(cfg)
	if err != nil {
		return nil, err
	}
	db := &DB{cfg: cfg, client: c}
	db.state, db.logs, db.history, db.deadLetters, db.aggregates = db.newState(), db.newLogs(), db.newHistory(), db.newDeadLetters(), db.newAggregates()
	if err := db.checkVersion(ctx); err != nil {
		return nil, errors.Join(err, c.close(ctx))
	}
	return db, nil
}

func (db *DB) checkVersion(ctx context.Context) error {
	var about struct {
		Version struct {
			Number string `json:"number"`
		} `json:"version"`
	}
	err := db.client.anyNode(func() error { return db.client.call(ctx, http.MethodGet, "/", nil, &about) })
	if err != nil {
		return err
	}
	major, rest, _ := strings.Cut(about.Version.Number, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	if errA != nil || errB != nil || a < versionMajor || a == versionMajor && b < versionMinor {
		return fmt.Errorf("the server is version %s, want %d.%d or later", about.Version.Number, versionMajor, versionMinor)
	}
	return nil
}

// warnAsync warns of indices that answer before a write is on disk, which somebody must have set: the default is "request".
func (db *DB) warnAsync(ctx context.Context) error {
	var settings map[string]struct {
		Settings map[string]string `json:"settings"`
	}
	err := db.client.call(ctx, http.MethodGet, "/"+db.cfg.Prefix+"-*/_settings/index.translog.durability?flat_settings=true", nil, &settings)
	if err != nil {
		return err
	}
	for index, s := range settings {
		if how := s.Settings["index.translog.durability"]; strings.EqualFold(how, "async") {
			db.cfg.Log.Warn("an acknowledged write to this index may be lost when a node fails", "index", index, "index.translog.durability", how)
		}
	}
	return nil
}

// Close ends the upkeep; nothing else is to be called after it. A second Close does nothing.
func (db *DB) Close() error {
	var err error
	db.closeOnce.Do(func() { err = db.close() })
	return err
}

// name returns the name of an index or template.
func (db *DB) name(of string) string { return db.cfg.Prefix + "-" + of }

// State returns the store of device_state and devices.
func (db *DB) State() store.StateWriter { return db.state }

// Logs returns the store of logs.
func (db *DB) Logs() store.LogWriter { return db.logs }

// History returns the store of device_messages.
func (db *DB) History() store.HistoryWriter { return db.history }

// DeadLetters returns the store of dead_letters.
func (db *DB) DeadLetters() store.DeadLetterWriter { return db.deadLetters }

// Aggregates returns the store of aggregates.
func (db *DB) Aggregates() store.AggregateWriter { return db.aggregates }

// keep deletes what is past its time, at once and then every hour, until ctx ends. Every replica does so; the second to delete
// an index finds it gone.
func (db *DB) keep(ctx context.Context) {
	every := time.NewTicker(upkeepEvery)
	defer every.Stop()
	for {
		if err := db.Expire(ctx); err != nil && ctx.Err() == nil {
			db.cfg.Log.WarnContext(ctx, "old rows were not deleted, the next hour tries again", "error", err)
		}
		if err := db.sweep(ctx); err != nil && ctx.Err() == nil {
			db.cfg.Log.WarnContext(ctx, "leftovers of crashes were not deleted, the next hour tries again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}
