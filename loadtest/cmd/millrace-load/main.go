// Command millrace-load sends load to a running instance and prints what came of it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/millrace/millrace/loadtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "millrace-load:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	load := loadtest.Load{Now: time.Now}
	flags := flag.NewFlagSet("millrace-load", flag.ContinueOnError)
	flags.StringVar(&load.MQTT, "mqtt", "", "`host:port` of the MQTT listener; empty: HTTP is used")
	flags.StringVar(&load.HTTP, "http", "http://127.0.0.1:8080", "`URL` of the instance")
	flags.StringVar(&load.Token, "token", os.Getenv("MILLRACE_TOKEN"), "API `token`")
	flags.IntVar(&load.Devices, "devices", 1000, "number of devices")
	flags.IntVar(&load.Messages, "messages", 1_000_000, "number of messages")
	flags.IntVar(&load.Connections, "connections", 16, "MQTT connections, or HTTP requests under way")
	flags.IntVar(&load.Inflight, "inflight", 1000, "unacknowledged messages of one MQTT connection")
	flags.IntVar(&load.Batch, "batch", 1000, "messages in one HTTP request")
	flags.Float64Var(&load.Rate, "rate", 0, "messages a second; 0: as fast as they are taken")
	pid := flags.Int("pid", 0, "process of the instance, to tell its CPU time and peak memory")
	latency := flags.Bool("latency", false, "measure the time from publish to live event")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return measure(ctx, load, *pid, *latency)
}

func measure(ctx context.Context, load loadtest.Load, pid int, latency bool) error {
	stores := loadtest.Stores{HTTP: load.HTTP, Token: load.Token}
	before, err := stores.Messages(ctx)
	if err != nil {
		return err
	}
	follower := &loadtest.Latency{HTTP: load.HTTP, Token: load.Token, Now: time.Now}
	if latency {
		go func() {
			if err := follower.Follow(ctx); err != nil {
				fmt.Fprintln(os.Stderr, "millrace-load: follow the live stream:", err)
			}
		}()
		<-follower.Started()
	}
	used, err := usage(pid)
	if err != nil {
		return err
	}
	begin := time.Now()
	sent, err := load.Run(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("acknowledged %d messages in %.2f s: %.0f/s (%d refused and sent again)\n",
		sent.Acknowledged, sent.Took.Seconds(), float64(sent.Acknowledged)/sent.Took.Seconds(), sent.Refused)
	if err := stores.Await(ctx, before+sent.Acknowledged); err != nil {
		return err
	}
	took := time.Since(begin)
	fmt.Printf("visible to SQL after %.2f s: %.0f/s end to end\n", took.Seconds(), float64(sent.Acknowledged)/took.Seconds())
	if pid != 0 {
		now, err := usage(pid)
		if err != nil {
			return err
		}
		fmt.Printf("CPU %.2f s per million messages; peak memory %.0f MiB\n",
			(now.CPU-used.CPU).Seconds()/float64(sent.Acknowledged)*1e6, float64(now.PeakRSS)/(1<<20))
	}
	if latency {
		events, q := follower.Quantiles(0.5, 0.99, 1)
		fmt.Printf("publish to live event over %d events: p50 %v, p99 %v, max %v\n", events, q[0], q[1], q[2])
	}
	return nil
}

func usage(pid int) (loadtest.Usage, error) {
	if pid == 0 {
		return loadtest.Usage{}, nil
	}
	return loadtest.ReadUsage(pid)
}
