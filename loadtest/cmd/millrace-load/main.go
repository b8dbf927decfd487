// Command millrace-load sends load to a running instance and prints what came of it.
package main

import (
	"context"
	"errors"
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
	flood := loadtest.Flood{Every: 100 * time.Millisecond, Now: time.Now}
	flags.IntVar(&flood.Connections, "flood", 0, "connections of one device that floods over MQTT, while -devices others send now and then; nothing else is measured")
	flags.DurationVar(&flood.For, "flood-for", 10*time.Second, "how long the others are measured, alone and under the flood")
	latency := flags.Bool("latency", false, "measure the time from publish to live event")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flood.Connections > 0 {
		flood.MQTT, flood.Devices, flood.Inflight = load.MQTT, load.Devices, load.Inflight
		return measureFlood(ctx, flood)
	}
	return measure(ctx, load, *pid, *latency)
}

// measureFlood prints what a flood does to others.
func measureFlood(ctx context.Context, f loadtest.Flood) error {
	if f.MQTT == "" {
		return errors.New("-flood needs -mqtt")
	}
	got, err := f.Run(ctx)
	if err != nil {
		return err
	}
	const half, most = 0.5, 0.99
	p50, p99 := loadtest.Quantile(got.Alone, half), loadtest.Quantile(got.Alone, most)
	under50, under99 := loadtest.Quantile(got.Under, half), loadtest.Quantile(got.Under, most)
	fmt.Printf("alone:           %d messages of %d devices acknowledged, p50 %v, p99 %v\n", len(got.Alone), f.Devices, p50, p99)
	fmt.Printf("under the flood: %d messages, p50 %v (%.1f times), p99 %v (%.1f times), %d not answered\n", len(got.Under),
		under50, ratio(under50, p50), under99, ratio(under99, p99), got.Unanswered)
	fmt.Printf("the flood:       %.0f/s taken, %.0f/s refused\n", float64(got.Taken)/f.For.Seconds(), float64(got.Refused)/f.For.Seconds())
	return nil
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(max(b, 1)) }

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
