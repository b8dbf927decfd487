package cli

import (
	"context"
	"errors"

	"github.com/millrace/millrace/pkg/service"
	"github.com/millrace/millrace/services/standalone"
)

func tryRules(_ context.Context, _ *Env, _ *service.Process, _ standalone.Config, _ *replayFlags) error {
	return errors.New("--rules: not there yet")
}
