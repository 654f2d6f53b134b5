//go:build unix

package platform

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

func newExecutor(t *testing.T, p *Platform, service, script string) (*Executor, *faas.Binary) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	bin, err := faas.InspectBinary(path)
	if err != nil {
		t.Fatal(err)
	}
	return p.Executor(service), bin
}

func units(t *testing.T, e *Executor, bin *faas.Binary, functions ...faas.Function) []faas.Unit {
	t.Helper()
	list, err := e.Units(bin, functions)
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		if list[i].Package, err = faas.BuildPackage(t.Context(), t.TempDir(), list[i].Files); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

func TestExecutorKeepsTheContract(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	open := func(_ testing.TB, service string) faas.Executor { return p.Executor(service) }
	faastest.Run(t, faastest.Harness{
		Open: open, AtomicUpdate: true, Provider: providerName,
		Limits:      faas.Limits{MaxMemoryMB: 10_240, MaxTimeoutSecs: 900, MaxPayloadMB: 16},
		MemorySizes: faas.MemorySizes{Min: 128, Step: 1},
		OpenIn: func(t testing.TB, service string, sky *faastest.Sky) faas.Executor {
			return sky.Executor(open(t, service))
		},
		OpenLossy: func(t testing.TB, service string) faas.Executor {
			return faastest.Faulty(open(t, service), faastest.Faults(
				faastest.Rule{Op: faastest.OpInvoke, Fault: faastest.Fault{Kind: faastest.LostAnswer}}))
		},
	})
}

func TestExecutorDeploysInvokesAndRemoves(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx := t.Context()
	e, bin := newExecutor(t, p, "my-service", doubler)
	us := units(t, e, bin, faas.Function{JobID: 3, MemoryMB: 256, TimeoutSecs: 10},
		faas.Function{JobID: 1, MemoryMB: 256, TimeoutSecs: 10})
	if us[0].ID != "my-service-job1" || us[1].ID != "my-service-job3" {
		t.Fatal(us)
	}
	if _, err := e.Observe(ctx, us[0].ID); faas.CodeOf(err) != faas.ErrNotFound {
		t.Error(err)
	}
	var sent int64
	state, err := e.Converge(ctx, us[0], nil, func(p faas.Progress) { sent = p.Bytes })
	if err != nil || !state.Current(us[0]) || sent != us[0].Package.Size() {
		t.Fatal(state, err, sent)
	}
	seen, err := e.Observe(ctx, us[0].ID)
	if diff := cmp.Diff(state, seen); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if again, err := e.Converge(ctx, us[0], &seen, nil); err != nil || again.Revision != state.Revision {
		t.Errorf("an unchanged unit was deployed again: %v %v", again, err)
	}
	r, err := e.Invoke(ctx, 1, []byte("ab"))
	if err != nil || string(r.Output) != "aabb" || r.Metrics.Total <= 0 || !r.Metrics.ColdStart {
		t.Error(r, err)
	}
	if h, err := e.Health(ctx, 1); err != nil || !h.Healthy || h.TotalInvocations != 1 {
		t.Error(h, err)
	}
	other := p.Executor("other")
	if _, err := other.Observe(ctx, us[0].ID); faas.CodeOf(err) != faas.ErrConflict {
		t.Error(err)
	}
	if err := other.Remove(ctx, us[0].ID); faas.CodeOf(err) != faas.ErrConflict {
		t.Error(err)
	}

	// Deploy another version, and restore the first.
	_, bin2 := newExecutor(t, p, "my-service", `echo '{"result":[1]}'`)
	u2 := units(t, e, bin2, us[0].Functions...)[0]
	if s, err := e.Converge(ctx, u2, &state, nil); err != nil || !s.Current(u2) {
		t.Fatal(s, err)
	}
	if r, err := e.Invoke(ctx, 1, nil); err != nil || string(r.Output) != "\x01" {
		t.Error(r, err)
	}
	// The executor keeps the old version, however often the function is replaced.
	for range 2 {
		if err := e.Restore(ctx, state); err != nil {
			t.Error(err)
		}
	}
	if r, err := e.Invoke(ctx, 1, []byte("a")); err != nil || string(r.Output) != "aa" {
		t.Error(r, err)
	}
	_, bin3 := newExecutor(t, p, "my-service", `echo '{"result":[3]}'`)
	for _, u := range []faas.Unit{u2, units(t, e, bin3, us[0].Functions...)[0]} {
		if s, err := e.Converge(ctx, u, nil, nil); err != nil || !s.Current(u) {
			t.Fatal(s, err)
		}
	}
	for range 2 {
		if err := e.Restore(ctx, state); err != nil {
			t.Error(err)
		}
	}
	if r, err := e.Invoke(ctx, 1, []byte("a")); err != nil || string(r.Output) != "aa" {
		t.Error(r, err)
	}
	if list, err := e.List(ctx); err != nil || len(list) != 1 || list[0].ID != us[0].ID || !list[0].Current(us[0]) {
		t.Error(list, err)
	}
	for range 2 {
		if err := e.Remove(ctx, us[0].ID); err != nil {
			t.Error(err)
		}
	}
	if _, err := e.Invoke(ctx, 1, nil); faas.CodeOf(err) != faas.ErrNotFound {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := e.Converge(cancelled, us[0], nil, nil); faas.CodeOf(err) != faas.ErrTimeout {
		t.Error(err)
	}
}

// Whatever happens to a function after it was observed, Restore puts it back: code, configuration
// and the values of its environment. The platform keeps one earlier generation, and the executor
// those that it changed.
func TestRestorePutsCodeAndConfigurationBack(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx := t.Context()
	const script = `printf '{"result":[%s,'"$N"']}' `
	e, bin := newExecutor(t, p, "my-service", script+"1")
	_, other := newExecutor(t, p, "my-service", script+"2")
	function := func(n string, memory uint32) faas.Function {
		return faas.Function{JobID: 1, MemoryMB: memory, TimeoutSecs: 10, Env: faas.NewEnv(map[string]string{"N": n})}
	}
	converge := func(b *faas.Binary, f faas.Function) faas.State {
		t.Helper()
		s, err := e.Converge(ctx, units(t, e, b, f)[0], nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	answers := func(want string) {
		t.Helper()
		if r, err := e.Invoke(ctx, 1, nil); err != nil || string(r.Output) != want {
			t.Errorf("got %v, %v, want %q", r, err, want)
		}
	}
	prior := converge(bin, function("7", 256))
	for name, change := range map[string]func(){
		"nothing":       func() {},
		"configuration": func() { converge(bin, function("8", 512)) },
		"code":          func() { converge(other, function("7", 256)) },
		"several changes": func() {
			converge(other, function("7", 256))
			converge(other, function("9", 256))
			converge(bin, function("9", 256))
		},
		"removed by somebody":  func() { converge(other, function("7", 256)); _ = p.remove(ctx, prior.ID, "") },
		"replaced by somebody": func() { converge(other, function("7", 256)); converge2(t, p, prior.ID) },
	} {
		change()
		for range 2 {
			if err := e.Restore(ctx, prior); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			answers("\x01\x07")
			if s, err := e.Observe(ctx, prior.ID); err != nil || s.Fingerprint != prior.Fingerprint ||
				s.PackageSHA256 != prior.PackageSHA256 {
				t.Errorf("%s: %+v, %v", name, s, err)
			}
		}
	}
	if text := fmt.Sprintf("%+v %+v", e, p); strings.Contains(text, "N:7") || strings.Contains(text, "map[N") {
		t.Errorf("printing shows environments: %s", text)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Executor("my-service").Remove(ctx, prior.ID); err != nil {
		t.Error(err)
	}
	p.draining.Wait()
	if left, err := os.ReadDir(filepath.Join(p.Dir(), "packages")); err != nil || len(left) > 0 {
		t.Errorf("packages %v are kept for nobody, %v", left, err)
	}
}

// converge2 replaces a function as another program would.
func converge2(t *testing.T, p *Platform, id string) {
	t.Helper()
	_, err := p.deploy(t.Context(), &deployment{
		record: record{ID: id, Service: "my-service", Config: config{MemoryMB: 128, TimeoutSecs: 1}},
		pkg:    bytes.NewReader(scriptZip(t, "true")), replace: true})
	if err != nil {
		t.Fatal(err)
	}
}

func TestExecutorKeepsProcessesWarm(t *testing.T) {
	p, err := New(WithMaxWorkers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	path := filepath.Join(t.TempDir(), "job")
	l := limits(t)
	b := jobZip()
	u, err := p.store.receive(t.Context(), strings.NewReader(string(b)), 50<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer u.discard()
	a, err := openArchive(u.file, u.size, &l)
	if err == nil {
		err = os.Mkdir(path, 0o755)
	}
	if err == nil {
		err = a.unpack(path, false)
	}
	if err != nil {
		t.Fatal(err)
	}
	bin, err := faas.InspectBinary(filepath.Join(path, bootstrap))
	if err != nil || bin.Protocols != faas.SpeaksAll {
		t.Fatal(bin, err)
	}
	e := p.Executor("warm")
	unit := units(t, e, bin, faas.Function{JobID: jobEcho, MemoryMB: 256, TimeoutSecs: 10, KeepWarm: 2})[0]
	state, err := e.Converge(t.Context(), unit, nil, nil)
	if err != nil || state.ColdStart <= 0 {
		t.Fatal(state, err)
	}
	if n, err := e.Warm(t.Context(), jobEcho, 2); n != 2 || err != nil {
		t.Error(n, err)
	}
	r, err := e.Invoke(t.Context(), jobEcho, []byte("x"))
	if err != nil || string(r.Output) != "x" {
		t.Error(r, err)
	}
}

func TestUnitsRefuseWhatThePlatformWould(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	e, bin := newExecutor(t, p, "s", "true")
	ok := faas.Function{JobID: 1, MemoryMB: 256, TimeoutSecs: 10}
	tests := map[string]struct {
		change func(*faas.Function)
		want   faas.Code
	}{
		"memory":       {func(f *faas.Function) { f.MemoryMB = 20_000 }, faas.ErrTooLarge},
		"no memory":    {func(f *faas.Function) { f.MemoryMB = 0 }, faas.ErrInvalidArgument},
		"timeout":      {func(f *faas.Function) { f.TimeoutSecs = 0 }, faas.ErrInvalidArgument},
		"long timeout": {func(f *faas.Function) { f.TimeoutSecs = 20_000 }, faas.ErrTooLarge},
		"environment": {func(f *faas.Function) {
			f.Env = faas.NewEnv(
				map[string]string{"A": strings.Repeat("x", maxVariable)})
		}, faas.ErrTooLarge},
		"name": {func(f *faas.Function) { f.Env = faas.NewEnv(map[string]string{"A-B": "x"}) },
			faas.ErrInvalidArgument},
	}
	for name, tt := range tests {
		f := ok
		tt.change(&f)
		if _, err := e.Units(bin, []faas.Function{f}); faas.CodeOf(err) != tt.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := e.Units(&faas.Binary{Format: faas.FormatMachO, OS: "plan9", Arch: "amd64", Executable: true},
		[]faas.Function{ok}); faas.CodeOf(err) != faas.ErrInvalidArgument {
		t.Error(err)
	}
}
