package serverless_test

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The tests keep their ledgers in a directory of their own, not in the developer's.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(playRole(role))
	}
	dir, err := os.MkdirTemp("", "serverless-test-")
	if err == nil {
		for _, name := range []string{"XDG_STATE_HOME", "XDG_CONFIG_HOME", "AppData"} {
			err = os.Setenv(name, dir)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}
