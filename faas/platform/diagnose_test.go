//go:build unix

package platform

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func TestDiagnoseTellsHowThePlatformIs(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, p *Platform)
		check   string // "" for none that is not ok
		status  faas.CheckStatus
		detail  string
		remedy  string
	}{
		{"all is well", func(*testing.T, *Platform) {}, "", "", "", ""},
		{"it is closed", func(_ *testing.T, p *Platform) { p.Close() }, "platform", faas.CheckFailed, "closed", "again"},
		{"its directory is gone", func(t *testing.T, p *Platform) {
			if err := os.RemoveAll(p.Dir()); err != nil {
				t.Fatal(err)
			}
		}, "directory", faas.CheckFailed, "no such file", "start the platform again"},
		{"it is full", func(_ *testing.T, p *Platform) { p.functions["a"] = &function{} }, "functions", faas.CheckFailed,
			"no more than 1", "Limits.MaxFunctions"},
		{"a function could not be brought back", func(_ *testing.T, p *Platform) {
			p.opts.limits.MaxFunctions = 2
			p.functions["a"] = &function{broken: errors.New("x")}
		}, "functions", faas.CheckWarning, "1 of 1", "deploy them again"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := New(WithLimits(Limits{MaxFunctions: 1}), WithDir(t.TempDir()))
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			tt.prepare(t, p)
			for _, c := range p.Executor("svc").Diagnose(t.Context()) {
				switch {
				case c.Name != tt.check && (c.Status == faas.CheckFailed || c.Status == faas.CheckWarning):
					t.Errorf("%+v", c)
				case c.Name == tt.check && (c.Status != tt.status || !strings.Contains(c.Detail, tt.detail) ||
					!strings.Contains(c.Remedy, tt.remedy)):
					t.Errorf("%+v, want %+v", c, tt)
				}
			}
			delete(p.functions, "a")
		})
	}
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if checks := p.Executor("svc").Diagnose(ctx); checks[0].Status != faas.CheckFailed ||
		!errors.Is(checks[0].Err, faas.ErrTimeout) {
		t.Errorf("with a context that is done: %+v", checks[0])
	}
}
