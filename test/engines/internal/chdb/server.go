// Package chdb is a ClickHouse server for tests: the engine, which npm has as a library (chDB), loaded into this process,
// and before it ClickHouse's HTTP interface and native protocol, so that clickhouse-go talks to it as to any server.
//
// It has what the engine has: MergeTree and its kin, materialized views, TTL, deduplication tokens, S3, Parquet, the
// Kafka engine. It has no replication, no ON CLUSTER, no users but two, no query_log, and no queue for asynchronous
// inserts. Each statement is a session of its own, so SET, USE and temporary tables end with it; statements run side by
// side. An INSERT is spooled to a file before it starts. HTTP answers any error but a wrong password with status 500.
//
// engine.go is the library, http.go and native.go are the two protocols, block.go is the format of what they carry.
package chdb

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"time"
)

const (
	// Command is the argument by which a program that has this server in it is asked to be it.
	Command = "clickhouse-server"
	// PasswordVariable is the environment variable with the password of the user named by -user.
	PasswordVariable = "CHDB_PASSWORD"

	headerWithin = 10 * time.Second
	codeUnknown  = 1002
	codeSyntax   = 62
	codePassword = 516
)

// A server answers for one engine. Its methods are safe for concurrent use.
type server struct {
	engine         *engine
	user, password string // beside the user default, who needs none
	log            *slog.Logger
}

// Main serves until ctx ends; args are its flags.
func Main(ctx context.Context, args []string, log io.Writer) error {
	flags := flag.NewFlagSet(Command, flag.ContinueOnError)
	library := flags.String("library", "", "path of libchdb.so")
	dir := flags.String("dir", "", "data directory")
	config := flags.String("config", "", "a configuration file of ClickHouse")
	httpAddr := flags.String("http", "127.0.0.1:18123", "address of the HTTP interface")
	tcpAddr := flags.String("tcp", "127.0.0.1:19000", "address of the native protocol")
	user := flags.String("user", "", "a user beside default, with the password of $"+PasswordVariable)
	if err := flags.Parse(args); err != nil {
		return err
	}
	options := []string{"--path=" + *dir}
	if *config != "" {
		options = append(options, "--config-file="+*config)
	}
	e, err := load(*library, options...)
	if err != nil {
		return fmt.Errorf("load %s: %w", *library, err)
	}
	defer e.close() // waits for the engine's own writers alone
	s := &server{engine: e, user: *user, password: os.Getenv(PasswordVariable), log: slog.New(slog.NewTextHandler(log, nil))}
	return s.serve(ctx, *httpAddr, *tcpAddr)
}

func (s *server) serve(ctx context.Context, httpAddr, tcpAddr string) error {
	var listen net.ListenConfig
	tcp, err := listen.Listen(ctx, "tcp", tcpAddr)
	if err != nil {
		return err
	}
	defer func() { _ = tcp.Close() }() // the process ends
	web := &http.Server{Addr: httpAddr, Handler: s, ReadHeaderTimeout: headerWithin}
	defer func() { _ = web.Close() }() // the process ends
	ended := make(chan error, 2)       // one for each protocol
	go func() { ended <- s.serveNative(tcp) }()
	go func() { ended <- web.ListenAndServe() }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return err
	}
}

func (s *server) authenticate(user, password string) error {
	if user == "" || user == "default" {
		if password == "" {
			return nil
		}
	} else if user == s.user && password == s.password {
		return nil
	}
	return &exceptionError{codePassword, "Code: 516. DB::Exception: " + user +
		": Authentication failed: password is incorrect, or there is no user with such name. (AUTHENTICATION_FAILED)"}
}

var (
	quoted          = regexp.MustCompile("(?s)'(?:[^'\\\\]|\\\\.)*'|\"(?:[^\"\\\\]|\\\\.)*\"|`(?:[^`\\\\]|\\\\.)*`|--[^\n]*|/\\*.*?\\*/")
	secondStatement = regexp.MustCompile(`;\s*[^\s;]`)
)

// oneStatement refuses several, which a server refuses and the library would do.
func oneStatement(sql string) error {
	if head := inserted.FindString(sql); head != "" {
		sql = head
	}
	if secondStatement.MatchString(quoted.ReplaceAllString(sql, "")) {
		return &exceptionError{codeSyntax, "Code: 62. DB::Exception: Syntax error (Multi-statements are not allowed). (SYNTAX_ERROR)"}
	}
	return nil
}

// An exceptionError is what the engine says: "Code: 60. DB::Exception: Unknown table … (UNKNOWN_TABLE)".
type exceptionError struct {
	code int
	text string
}

func (e *exceptionError) Error() string { return e.text }

var exceptionCode = regexp.MustCompile(`^Code: (\d+)\.`)

// asException gives err as a client gets it.
func asException(err error) *exceptionError {
	if e := (*exceptionError)(nil); errors.As(err, &e) {
		return e
	}
	return &exceptionError{codeUnknown, err.Error()}
}
