package service

import (
	"context"
	"fmt"
	"net/url"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Tracing returns a provider that sends spans of the process to an OTLP/HTTP endpoint such as http://localhost:4318
// (the value of OTEL_EXPORTER_OTLP_ENDPOINT), and a function that sends what is left and ends it; call it with a context
// that has a deadline. Without an endpoint the provider does nothing. Neither is made global. Headers, timeouts and
// sampling follow OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_HEADERS, OTEL_TRACES_SAMPLER, …).
// When the endpoint cannot be reached spans are dropped: they never hold up work.
func Tracing(ctx context.Context, endpoint, name string) (trace.TracerProvider, func(context.Context) error, error) {
	if endpoint == "" {
		return noop.NewTracerProvider(), func(context.Context) error { return nil }, nil
	}
	base, err := url.Parse(endpoint)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, nil, fmt.Errorf("traces: endpoint %q, want a URL such as http://localhost:4318", endpoint)
	}
	// the variable names the base; the specification has each signal's path below it
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(base.JoinPath("v1", "traces").String()))
	if err != nil {
		return nil, nil, fmt.Errorf("traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", name),
			attribute.String("service.version", Version()),
		)),
	)
	return provider, provider.Shutdown, nil
}
